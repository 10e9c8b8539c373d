"""LoRA: which parameters are low-rank adapters, and how are they merged?

y = W x + (alpha / r) B (A x), with A [r,in] and B [out,r] trained and W frozen
(Hu et al. 2021, arXiv:2106.09685). A starts uniform in +-1/sqrt(in) and B at 0,
as in PEFT, so that training starts at the base, exactly. Adapters are leaves
`lora_a` [r,*in] and `lora_b` [*out,r] beside their `kernel` [*out,*in], float32
whatever the base is. A tree without them is the base: the same module computes
it, and shares its arrays.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp

from rlvr_jax import registry

A, B = 'lora_a', 'lora_b'
# Projections by what `on` calls them.
PLACES = {
  'attention': ('q', 'k', 'v', 'out'),
  'mlp': ('gate', 'up', 'down'),
}
PLACES['all'] = (*PLACES['attention'], *PLACES['mlp'])
MOST = 4096  # a rank; adapters of a larger one are no smaller than the kernel


class Lora(NamedTuple):
  """The adapters of a model. Hashable: a static argument of jit.

  Attributes:
    rank: r.
    alpha: their sum is scaled by alpha / r.
    on: names of the projections that have them, in the order of `PLACES`.
  """

  rank: int
  alpha: float
  on: tuple[str, ...]

  @property
  def scale(self) -> float:
    """alpha / r; 0 of rank 0, which adds nothing."""
    return self.alpha / self.rank if self.rank else 0.0


@registry.register('lora')
def lora(*, rank: int = 16, alpha: float = 32.0, on: str = 'all') -> Lora:
  """Adapters of `rank` on some projections of each layer.

  Args:
    rank: r of A [r,in] and B [out,r].
    alpha: their product is multiplied by alpha / rank.
    on: 'attention' (q, k, v, out), 'mlp' (gate, up, down), 'all', or names of
      projections in quotes, with | between them: on='q|v'.
  """
  if not 1 <= rank <= MOST:
    raise ValueError(
      f"rank={rank} must be in 1..{MOST}. Without adapters, model.lora is ''."
    )
  if not alpha > 0:
    raise ValueError(
      f'alpha={alpha:g} must be above 0: it scales the adapters.'
    )
  known = (*PLACES, *PLACES['all'])
  names = on.split('|')
  for name in names:
    if name not in known:
      raise ValueError(
        f'on={registry.show(on)}: no projection {registry.show(name)}.'
        f'{registry.nearest(name, known)} Known: {", ".join(known)}; several '
        "in quotes with | between them, 'q|v'."
      )
  chosen = {p for name in names for p in PLACES.get(name, (name,))}
  return Lora(
    rank, float(alpha), tuple(p for p in PLACES['all'] if p in chosen)
  )


def of(spec: str) -> Lora | None:
  """The adapters of model.lora; None for ''. ValueError names the key."""
  if not spec:
    return None
  with registry.naming('model.lora', spec):
    return registry.get('lora', spec)()


def spec_of(adapters: Lora) -> str:
  """The inverse of `of`."""
  on = next(
    (name for name, p in PLACES.items() if p == adapters.on),
    '|'.join(adapters.on),
  )
  return registry.spec('lora', rank=adapters.rank, alpha=adapters.alpha, on=on)


def is_adapter(path: str) -> bool:
  """Whether 'path/of/a/parameter' is part of an adapter."""
  return path.rpartition('/')[2] in (A, B)


def present(paths: Iterable[str]) -> bool:
  """Whether any of the paths is part of an adapter."""
  return any(map(is_adapter, paths))


def is_own(path: str) -> bool:
  """Whether a run with adapters trains the leaf: them, and a value head."""
  return is_adapter(path) or path.startswith('value_')


def _select(params: Mapping, keep: Callable[[str], bool]) -> dict[str, Any]:
  flat = traverse.flatten_dict(params, sep='/')
  return traverse.unflatten_dict(
    {k: x for k, x in flat.items() if keep(k)}, sep='/'
  )


def adapters(params: Mapping) -> dict[str, Any]:
  """The adapters of a parameter tree, a tree of their own."""
  return _select(params, is_adapter)


def own(params: Mapping) -> dict[str, Any]:
  """What a run with adapters trains, a tree of its own: see `is_own`."""
  return _select(params, is_own)


def join(params: Mapping, other: Mapping) -> dict[str, Any]:
  """`params` with the leaves of `other`, which replace its own."""
  flat = traverse.flatten_dict(params, sep='/')
  flat |= traverse.flatten_dict(other, sep='/')
  return traverse.unflatten_dict(flat, sep='/')


def swap(params: Mapping, other: Mapping | None) -> dict[str, Any]:
  """`params` with other adapters, None: without, so that it is the base.

  No array is copied.
  """
  base = _select(params, lambda path: not is_adapter(path))
  return join(base, other) if other else base


def delta(
  a: Any, b: Any, scale: float, matmul: Callable[[Any, Any], Any]
) -> Any:
  """f32 (alpha/r) B A of stacked a [L,r,*in] and b [L,*out,r]: [L,*out,*in].

  Args:
    scale: alpha / r.
    matmul: batched, of JAX or NumPy.
  """
  n, r = a.shape[:2]
  flat = matmul(b.reshape(n, -1, r), a.reshape(n, r, -1))
  return (scale * flat).reshape(*b.shape[:-1], *a.shape[2:])


def merge(params: Mapping, adapters: Lora | None) -> Mapping:
  """The tree with W + (alpha/r) B A as kernels, float32, and no adapters.

  Kernels without an adapter stay as they are, and so does a tree without any.

  Args:
    params: in the training layout, layers stacked.
  """
  flat = traverse.flatten_dict(params, sep='/')
  pairs = [k.removesuffix(A) for k in flat if k.endswith(f'/{A}')]
  if not pairs:
    return params

  def matmul(b, a):  # highest: else a TPU multiplies in bfloat16
    return jnp.matmul(b, a, precision=jax.lax.Precision.HIGHEST)

  for at in pairs:
    kernel = flat[f'{at}kernel'].astype(jnp.float32)
    added = delta(flat.pop(at + A), flat.pop(at + B), adapters.scale, matmul)
    flat[f'{at}kernel'] = kernel + added
  return traverse.unflatten_dict(flat, sep='/')

"""The gradient of a rollout's log-probability, as a short or a whole vector."""

import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import types
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import optimizer
from rlvr_jax.models import sharding, token_logprobs, transformer
from rlvr_jax.ops import sketch

BUCKET = 32  # rows are cut to a multiple of this number of tokens
SAVE_EVERY_S = 20.0
MOST_ROWS = 32  # computed together, of a small model


class Rows(NamedTuple):
  """Token rows and what their log-probs are weighted with.

  Attributes:
    tokens: i32[N,T], right-padded.
    weights: f32[N,K,T]: K vectors of a row, one a turn of a dialogue.
  """

  tokens: np.ndarray
  weights: np.ndarray


@functools.partial(
  jax.jit, static_argnames=('model', 'temperature', 'trainable', 'size')
)
def _vectors(
  params: Any,
  tokens: jax.Array,
  weights: jax.Array,
  *,
  model: transformer.Decoder,
  temperature: float,
  trainable: str,
  size: int,
) -> jax.Array:
  """f32[R,K,M] of R rows."""
  trained, frozen = optimizer.split(params, trainable)

  def row(tokens, weights):
    def weighted(trained):
      logp, _ = token_logprobs.token_logprobs(
        optimizer.join(trained, frozen),
        tokens[None],
        model=model,
        temperature=temperature,
      )
      return (weights * logp).sum(-1)

    _, back = jax.vjp(weighted, trained)

    def vector(one):
      (grads,) = back(one)
      return flat(grads, size)

    return jax.vmap(vector)(jnp.eye(len(weights), dtype=jnp.float32))

  return jax.vmap(row)(tokens, weights)


def flat(grads: Any, size: int) -> jax.Array:
  """f32[M]: the gradient, sketched to M = size; whole if size is 0."""
  if size:
    return sketch.sketch(grads, size)
  leaves = traverse.flatten_dict(grads, sep='/')
  return jnp.concatenate([leaves[k].ravel() for k in sorted(leaves)])


def of_gradient(grads: Any, size: int) -> jax.Array:
  """f32[M]: minus the gradient of a loss, as `flat`."""
  return flat(jax.tree.map(jnp.negative, grads), size)


def pad(batch: types.Batch, rows: int) -> types.Batch:
  """Rows without a trained token at the end, which no aggregate counts."""
  more = rows - len(batch.tokens)
  wide = lambda x: np.pad(x, [(0, more)] + [(0, 0)] * (np.ndim(x) - 1))
  return jax.tree.map(wide, batch)


def distinct(rows: Rows) -> tuple[Rows, np.ndarray]:
  """(rows without repetitions, i[N]: which of them each row is)."""
  key = np.concatenate(
    [rows.tokens, rows.weights.reshape(len(rows.tokens), -1).view(np.int32)], 1
  )
  _, first, which = np.unique(
    key, axis=0, return_index=True, return_inverse=True
  )
  return Rows(rows.tokens[first], rows.weights[first]), which.reshape(-1)


class Store(NamedTuple):
  """A file of vectors that an interrupted computation resumes from.

  Attributes:
    path: of an array f32[N,K,M]; beside it stands how many rows are done.
  """

  path: pathlib.Path

  @property
  def _count(self) -> pathlib.Path:
    return self.path.with_suffix('.done')

  def open(self, shape: tuple[int, ...]) -> tuple[np.memmap, int]:
    """(the array, number of rows that are done)."""
    self.path.parent.mkdir(parents=True, exist_ok=True)
    try:
      done = int(self._count.read_text())
      array = np.load(self.path, mmap_mode='r+')
      if array.shape == shape and 0 <= done <= shape[0]:
        return array, done
    except (OSError, ValueError):  # none yet, or cut short
      pass
    self._count.unlink(missing_ok=True)
    return np.lib.format.open_memmap(self.path, 'w+', np.float32, shape), 0

  def save(self, array: Any, done: int) -> None:
    """Rows before `done` are on disk when this returns."""
    array.flush()
    temporary = self._count.with_suffix('.new')
    temporary.write_text(str(done))
    temporary.replace(self._count)


def store_of(
  folder: pathlib.Path, step: int, rows: Rows, identity: Mapping[str, Any]
) -> Store:
  """The store of these rows' vectors.

  Args:
    identity: what vectors depend on besides the rows.
  """
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
  for array in rows:
    digest.update(repr(array.shape).encode() + array.tobytes())
  return Store(folder / f'vectors-{step}-{digest.hexdigest()[:16]}.npy')


def score_vectors(
  policy: FrozenModel,
  rows: Rows,
  *,
  temperature: float,
  trainable: str,
  size: int,
  store: Store | None = None,
  progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
  """f32[N,K,M]: gradients of sum_t weights[k,t] log p(tokens[t]) by row.

  One backward pass a row and turn, and never more than a few gradients at a
  time. On a mesh each row is computed by all devices, with the parameters
  sharded as in training. Call it within `sharding.use` of the policy's mesh.

  Args:
    policy: with `params`.
    rows: at least one; see `distinct`.
    temperature: of the log-probs.
    trainable: regular expression on parameter paths, `optimizer.trainable`.
    size: M of `ops.sketch`; 0: the whole gradient, M parameters.
    store: where to keep them, and to resume from; None: in memory.
    progress: called with the number of rows done, at first and now and then.
  """
  count = sum(x.size for x in jax.tree.leaves(policy.params))
  trained, _ = optimizer.split(policy.params, trainable)
  columns = size or sum(x.size for x in trained.values())
  batch = int(np.clip(2**23 // count, 1, MOST_ROWS))
  width = rows.tokens.shape[1]
  used = (rows.weights != 0).any(1)
  length = np.where(used.any(-1), width - used[:, ::-1].argmax(-1), 1)
  order = np.argsort(length, kind='stable')
  shape = (len(order), rows.weights.shape[1], columns)
  if store is None:
    out: Any = np.empty(shape, np.float32)
    done = 0
  else:
    out, done = store.open(shape)
  progress(done)
  saved = time.monotonic()
  for start in range(done, len(order), batch):
    some = order[start : start + batch]
    cut = min(-(-int(length[some].max()) // BUCKET) * BUCKET, width)
    full = np.resize(some, batch)  # one shape, one program
    # Constraints on activations are for batches of many rows.
    with nn.logical_axis_rules(()):
      made = _vectors(
        policy.params,
        rows.tokens[full, :cut],
        rows.weights[full, :, :cut],
        model=policy.model,
        temperature=temperature,
        trainable=trainable,
        size=size,
      )
    out[start : start + len(some)] = sharding.to_host(made)[: len(some)]
    done = start + len(some)
    if store is not None and time.monotonic() - saved > SAVE_EVERY_S:
      store.save(out, done)
      saved = time.monotonic()
    progress(done)
  if store is not None:
    store.save(out, done)
  result = np.empty(shape, np.float32)
  result[order] = out  # stored in the order of lengths
  return result

"""Functions by name: `get('estimator', 'grpo(eps=1e-6)')`.

A spec is a name, or a name with literal arguments. Arguments bind the
function's keyword-only parameters, by name or in their order; a function
with `**options` takes further ones, by name, and checks them itself. Nothing
is evaluated: an argument is read by `ast.literal_eval`, or it is one bare
name and means the string of it, so `reasoning_gym(chain_sum)` needs no
quotes (True, False and None stay themselves). An argument that is a call, as
in `inverse(format(boxed))`, is passed on as its own spec, a string.
"""

import ast
import difflib
import functools
import importlib
import inspect
import re
from collections.abc import Callable

# Every module that registers functions of a kind, so that a lookup is
# independent of what happens to be imported.
_MODULES = {
  'credit': ('rlvr_jax.ops.credit',),
  'estimator': (
    'rlvr_jax.ops.estimators',
    'rlvr_jax.ops.estimators_batch',
    'rlvr_jax.ops.gae',
  ),
  'surrogate': ('rlvr_jax.ops.surrogate', 'rlvr_jax.ops.covariance'),
  'correction': ('rlvr_jax.ops.correction',),
  'aggregate': ('rlvr_jax.ops.aggregate',),
  'kl': ('rlvr_jax.ops.kl',),
  'reward': (
    'rlvr_jax.rewards.core',
    'rlvr_jax.rewards.format',
    'rlvr_jax.rewards.spurious',
    'rlvr_jax.rewards.labelled',
    'rlvr_jax.rewards.calibrated',
    'rlvr_jax.rewards.length',
    'rlvr_jax.rewards.intrinsic',
  ),
  'env': (
    'rlvr_jax.envs.arithmetic',
    'rlvr_jax.envs.countdown',
    'rlvr_jax.envs.gsm8k',
    'rlvr_jax.envs.jsonl',
    'rlvr_jax.envs.gym',
    'rlvr_jax.envs.strategies',
  ),
  'model': ('rlvr_jax.models.config',),
}
NESTED = ('reward',)  # kinds whose functions take specs of that kind
DEEPEST = 20
_FUNCTIONS: dict[str, dict[str, Callable]] = {kind: {} for kind in _MODULES}


def register(kind: str, name: str | None = None):
  """Decorator: makes a function known as `name` (default: its own)."""

  def wrap(fn):
    key = name or fn.__name__
    known = _FUNCTIONS[kind].setdefault(key, fn)
    if (known.__module__, known.__qualname__) != (
      fn.__module__,
      fn.__qualname__,
    ):
      raise ValueError(f'{kind} {key!r} is registered twice.')
    _FUNCTIONS[kind][key] = fn
    return fn

  return wrap


def nearest(name: str, known) -> str:
  """' Did you mean ...?' for the closest of `known`, or ''."""
  match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
  return f' Did you mean {match[0]!r}?' if match else ''


def names(kind: str) -> list[str]:
  """All names of a kind, sorted. ValueError for an unknown kind."""
  return sorted(_load(kind))


def get(kind: str, spec: str) -> Callable:
  """The function that `spec` names, with the spec's literals bound.

  Raises:
    ValueError: unknown kind or name (lists the known ones and the nearest),
      malformed spec, an argument that is no literal, or one that the
      function does not take.
  """
  functions = _load(kind)
  name, args, kwargs = parse(spec, nested=kind in NESTED)
  if name not in functions:
    raise ValueError(
      f'Unknown {kind} {name!r}.{nearest(name, functions)} '
      f'Known: {", ".join(sorted(functions))}.'
    )
  fn = functions[name]
  declared = inspect.signature(fn).parameters.values()
  params = [p for p in declared if p.kind is p.KEYWORD_ONLY]
  open_ended = any(p.kind is p.VAR_KEYWORD for p in declared)
  options = [p.name for p in params]
  if len(options) == 1 and params[0].annotation == tuple[str, ...]:
    args = [tuple(args)] if args else []  # all_of(a, b)
  for value in (*args, *kwargs.values()):
    for inner in value if isinstance(value, tuple) else (value,):
      if isinstance(inner, Spec):
        get(kind, inner)  # a bad one is refused here, not when it is called
  if len(args) > len(options):
    raise ValueError(
      f'{kind} {spec!r} has {len(args)} positional arguments; '
      f'{name} takes {len(options)}: {", ".join(options) or "none"}.'
    )
  bound = dict(zip(options, args, strict=False))
  for key, value in kwargs.items():
    if key not in options and not open_ended:
      raise ValueError(
        f'{kind} {spec!r}: {name} has no option {key!r}.'
        f'{nearest(key, options)} It takes: {", ".join(options) or "none"}.'
      )
    if key in bound:
      raise ValueError(f'{kind} {spec!r} gives {key!r} twice.')
    bound[key] = value
  missing = [
    p.name for p in params if p.default is p.empty and p.name not in bound
  ]
  if missing:
    raise ValueError(
      f'{kind} {spec!r} needs {", ".join(missing)}: '
      f"write '{name}({missing[0]}=...)'."
    )
  return functools.partial(fn, **bound) if bound else fn


def parse(spec: str, *, nested: bool = False) -> tuple[str, list, dict]:
  """'name(1, k=x)' -> ('name', [1], {'k': 'x'}); nothing is evaluated.

  nested: arguments may be specs, which are returned as strings (`Spec`).
  """
  rule = "write 'name' or 'name(1, key=2)' with literal arguments"
  if not isinstance(spec, str) or len(spec) > 10_000:
    raise ValueError(f'Bad spec {str(spec)[:80]!r}: {rule}.')
  try:
    # Names may hold dots, as qwen2.5_7b does, which Python would not parse.
    name = re.match(r'[A-Za-z_]\w*(\.\w+)*', spec.strip())
    if name is None:
      raise ValueError('no name')
    node = ast.parse('_' + spec.strip()[name.end() :], mode='eval').body
    if isinstance(node, ast.Name) and node.id == '_':
      return name[0], [], {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
      raise ValueError('neither a name nor a call')
    if any(k.arg is None for k in node.keywords):
      raise ValueError('** is not allowed')
    keys = [k.arg for k in node.keywords]
    if twice := sorted({k for k in keys if keys.count(k) > 1}):
      raise ValueError(f'{", ".join(twice)} given twice')
    args = [_literal(a, nested) for a in node.args]
    kwargs = {k.arg: _literal(k.value, nested) for k in node.keywords}
  except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
    raise ValueError(f'Bad spec {spec!r} ({e}): {rule}.') from e
  return name[0], args, kwargs


class Spec(str):
  """A spec inside another one."""


def _literal(node: ast.expr, nested: bool):
  if nested and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
    spec = ast.unparse(node)
    if spec.count('(') > DEEPEST:
      raise ValueError(f'more than {DEEPEST} specs in each other')
    return Spec(spec)
  return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _load(kind: str) -> dict[str, Callable]:
  if kind not in _MODULES:
    raise ValueError(
      f'Unknown kind {kind!r}.{nearest(kind, _MODULES)} '
      f'Known: {", ".join(_MODULES)}.'
    )
  for module in _MODULES[kind]:
    importlib.import_module(module)
  return _FUNCTIONS[kind]

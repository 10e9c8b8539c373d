"""Functions by name: `get('estimator', 'grpo(eps=1e-6)')`.

A spec is a name, or a name with literal arguments. Arguments bind the
function's keyword-only parameters, by name or in their order; a function
with `**options` takes further ones, by name, and checks them itself. Nothing
is evaluated: an argument is read by `ast.literal_eval`, or it is one bare
name and means the string of it, so `reasoning_gym(chain_sum)` needs no
quotes (True, False and None stay themselves).

Values are held against the parameters' annotations: bool (`true` and `false`
are read too), int, float (a whole number will do), str, None (`none`), tuples
of these, and unions. Another type is refused when the function is looked up,
and so are NaN, infinities and numbers that float32 has no room for.

A parameter annotated `Spec` takes the spec of another function of its kind, as
in `inverse(format(boxed))`; one with `*rewards: Spec` takes several. They reach
it as text, to `get`; they are checked when the outer one is looked up.
"""

import ast
import contextlib
import difflib
import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator

from rlvr_jax import annotations, forms

DEPTH = 8  # specs within specs
LONGEST = 10_000  # characters of a spec

_FUNCTIONS: dict[str, dict[str, Callable]] = {
  kind: {} for kind in forms.MODULES
}
_TRIALS: dict[str, Callable[[Callable], object]] = {}
_first_stays = False


class Spec(str):
  """The text of a function, as an argument of another one."""


def register(kind: str, name: str | None = None):
  """Decorator: makes a function known as `name` (default: its own)."""

  def wrap(fn):
    key = name or fn.__name__
    forms.check(kind, key, fn)
    known = _FUNCTIONS[kind].get(key, fn)
    where = lambda f: (f.__module__, f.__qualname__)
    if known is not fn and _first_stays:
      if kind == 'model' and not _same_source(known, fn):
        raise ValueError(
          f'model {key!r} is not the same in {known.__code__.co_filename} and '
          f'{fn.__code__.co_filename}: rename one of them.'
        )
      return fn
    if where(known) != where(fn):
      raise ValueError(
        f'{kind} {key!r} is registered twice, by {known.__module__} and '
        f'{fn.__module__}: rename one of them.'
      )
    _FUNCTIONS[kind][key] = fn
    return fn

  return wrap


@contextlib.contextmanager
def first_stays() -> Iterator[None]:
  """Within it, names that are taken stay with who has them.

  For the config file of another run, of which only the model is used: its
  functions must be there, and not replace those at hand; models agree."""
  global _first_stays
  before, _first_stays = _first_stays, True
  try:
    yield
  finally:
    _first_stays = before


def registered() -> dict[tuple[str, str], Callable]:
  """{(kind, name): function} of what is registered by now."""
  return {
    (kind, name): fn
    for kind, functions in _FUNCTIONS.items()
    for name, fn in functions.items()
  }


def _same_source(a: Callable, b: Callable) -> bool:
  try:
    return inspect.getsource(a) == inspect.getsource(b)
  except OSError:  # a file that is gone
    return False


def nearest(name: str, known) -> str:
  """' Did you mean ...?' for the closest of `known`, or ''."""
  match = difflib.get_close_matches(
    str(name)[:100], list(known), n=1, cutoff=0.5
  )
  return f' Did you mean {match[0]!r}?' if match else ''


def trial(kind: str):
  """Decorator: calls what `get` found once, so that it can refuse options."""

  def wrap(call):
    _TRIALS[kind] = call
    return call

  return wrap


def show(value, limit: int = 200) -> str:
  """`repr` for messages: what is longer than `limit` characters is cut."""
  try:
    text = repr(value)
  except ValueError:  # Python prints no integer of thousands of digits
    return 'a number of thousands of digits'
  if len(text) <= limit:
    return text
  return f'{text[: limit - 30]}...{text[-5:]} ({len(text)} characters)'


@contextlib.contextmanager
def naming(key: str, spec=None) -> Iterator[None]:
  """Within it, a ValueError says first which key (and spec) it is about."""
  try:
    yield
  except ValueError as e:
    at = key if spec is None else f'{key}={show(spec)}'
    raise ValueError(f'{at}: {e}') from e


def names(kind: str) -> list[str]:
  """All names of a kind, sorted. ValueError for an unknown kind."""
  return sorted(_load(kind))


def get(kind: str, spec: str) -> Callable:
  """The function that `spec` names, with the spec's literals bound.

  Raises:
    ValueError: unknown kind or name (lists the known ones and the nearest),
      malformed spec, an argument that is no literal, of another type than its
      annotation, or one that the function does not take or refuses; the same
      of a spec within it. An environment refuses when it is called.
  """
  fn, rest, bound = _resolve(kind, spec)
  if rest:
    made = lambda *data: fn(*data, *rest, **bound)
  else:
    made = functools.partial(fn, **bound) if bound else fn
  if kind in _TRIALS:
    with naming(f'{kind} {show(spec)}'):
      try:
        _TRIALS[kind](made)
      except TypeError as e:
        why, rule = show(str(e)), forms.written(kind)
        raise ValueError(f'it cannot be called: {why}; write {rule}.') from e
  return made


def named(kind: str, spec: str) -> dict[str, Callable]:
  """{name: function} of all that a spec names, those within it too.

  Raises:
    ValueError: see `get`.
  """
  return {parse(s)[0]: _resolve(kind, s)[0] for s in within(kind, spec)}


def within(kind: str, spec: str) -> list[str]:
  """The spec and all specs within it, bare names too.

  Raises:
    ValueError: see `get`.
  """
  _, rest, bound = _resolve(kind, spec)
  inner = [x for x in (*rest, *bound.values()) if isinstance(x, Spec)]
  return [spec, *(s for x in inner for s in within(kind, x))]


def _resolve(kind: str, spec: str) -> tuple[Callable, list, dict]:
  """(function, values of its *parameter, its options), all checked."""
  functions = _load(kind)
  name, args, kwargs = parse(spec)
  if name not in functions:
    raise ValueError(
      f'Unknown {kind} {show(name)}.{nearest(name, functions)} '
      f'Known: {", ".join(sorted(functions))}.'
    )
  fn = functions[name]
  several = next(
    (p for p in _parameters(fn) if p.kind is p.VAR_POSITIONAL), None
  )
  rest = []
  if several is not None:
    if not args:
      raise ValueError(
        f"{kind} {show(spec)} needs {several.name}: write '{name}(...)' with "
        'one or more.'
      )
    rest = [_argument(kind, spec, several, value) for value in args]
    args = []
  return fn, rest, bind(kind, spec, fn, args, kwargs)


def bind(kind: str, spec: str, fn: Callable, args: list, kwargs: dict) -> dict:
  """The options of `fn` that `parse` read, by name and checked.

  Raises:
    ValueError: too many or unknown ones, one that is missing or comes twice, a
      value that the parameter's annotation has no room for.
  """
  params = [p for p in _parameters(fn) if p.kind is p.KEYWORD_ONLY]
  open_ended = any(p.kind is p.VAR_KEYWORD for p in _parameters(fn))
  options = [p.name for p in params]
  name = parse(spec)[0]
  if len(args) > len(options):
    raise ValueError(
      f'{kind} {show(spec)} has {len(args)} positional arguments; '
      f'{name} takes {len(options)}: {", ".join(options) or "none"}.'
    )
  bound = dict(zip(options, args, strict=False))
  for key, value in kwargs.items():
    if key not in options and not open_ended:
      raise ValueError(
        f'{kind} {show(spec)}: {name} has no option {show(key)}.'
        f'{nearest(key, options)} It takes: {", ".join(options) or "none"}.'
      )
    if key in bound:
      raise ValueError(f'{kind} {show(spec)} gives {key!r} twice.')
    bound[key] = value
  missing = [
    p.name for p in params if p.default is p.empty and p.name not in bound
  ]
  if missing:
    raise ValueError(
      f'{kind} {show(spec)} needs {", ".join(missing)}: '
      f"write '{name}({missing[0]}=...)'."
    )
  by_name = {p.name: p for p in params}
  return {
    key: _argument(kind, spec, by_name.get(key), value, key)
    for key, value in bound.items()
  }


def _parameters(fn) -> list[inspect.Parameter]:
  try:
    found = inspect.signature(fn, eval_str=True)
  except (NameError, SyntaxError):  # a type that only a type checker knows
    found = inspect.signature(fn)
  return list(found.parameters.values())


def _argument(kind, spec, parameter, value, key=''):
  """The value as the parameter takes it; a checked `Spec` where it asks."""
  key = key or parameter.name
  kinds = object if parameter is None else parameter.annotation
  if kinds is Spec:
    if not isinstance(value, str):
      raise ValueError(
        f'{kind} {show(spec)}: {key} takes a {kind} by its name, not '
        f'{show(value)}.'
      )
    with naming(f'{kind} {show(spec)}'):
      _resolve(kind, value)
    return Spec(value)
  if isinstance(value, Spec):
    raise ValueError(
      f'Bad spec {show(spec)}: the argument {show(str(value))} is a call; '
      'write a literal such as 0.2, or quote it if it is text.'
    )
  try:
    return annotations.fitted(kinds, value)
  except TypeError as e:
    raise ValueError(
      f'{kind} {show(spec)}: {key}={show(value)} must be {e}.'
    ) from e


def parse(spec: str) -> tuple[str, list, dict]:
  """'name(1, k=x)' -> ('name', [1], {'k': 'x'}); nothing is evaluated.

  An argument that is itself a call stays text: a `Spec`.
  """
  rule = "write 'name' or 'name(1, key=2)' with literal arguments"
  if not isinstance(spec, str):
    raise ValueError(f'Bad spec {show(spec)}: {rule}.')
  if len(spec) > LONGEST:
    raise ValueError(
      f'Bad spec {show(spec)}: at most {LONGEST} characters; {rule}.'
    )
  try:
    # Names may hold dots, as qwen2.5_7b does, which Python would not parse.
    name = re.match(r'[A-Za-z_]\w*(\.\w+)*', spec.strip())
    if name is None:
      raise ValueError('no name')
    text = '_' + spec.strip()[name.end() :]
    with warnings.catch_warnings():  # a backslash in quotes is a backslash
      warnings.simplefilter('ignore')
      node = ast.parse(text, mode='eval').body
    if isinstance(node, ast.Name) and node.id == '_':
      return name[0], [], {}
    _check_call(node)
    read = functools.partial(_literal, text)
    args = [read(a) for a in node.args]
    kwargs = {k.arg: read(k.value) for k in node.keywords}
  except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
    why, rule = str(e)[:200], rule + forms.quoted(spec)[:200]
    raise ValueError(f'Bad spec {show(spec)} ({why}): {rule}.') from e
  return name[0], args, kwargs


def spec(name: str, /, *args, **arguments) -> str:
  """The inverse of `parse`: spec('grpo', eps=1e-6) is 'grpo(eps=1e-06)'.

  A `Spec` stays a call; a string is quoted unless it is one word.

  Raises:
    ValueError: an argument that no literal writes, such as NaN or an array, or
      a name that is none.
  """
  write = lambda x: str(x) if type(x) is Spec else annotations.literal(x)
  try:
    words = [write(a) for a in args]
    words += [f'{key}={write(value)}' for key, value in arguments.items()]
  except TypeError as e:
    raise ValueError(f'{name}: no spec can hold {e}') from e
  text = f'{name}({", ".join(words)})' if words else name
  read = parse(text)
  if read != (name, list(args), arguments):
    raise ValueError(f'{show(text)} would be read as {show(read)}.')
  return text


def _check_call(node: ast.expr, depth: int = 0) -> None:
  """ValueError unless it is `name(...)`, and all calls within it are too."""
  if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
    raise ValueError('neither a name nor a call')
  if depth > DEPTH:
    raise ValueError(f'calls nest deeper than {DEPTH}')
  if any(k.arg is None for k in node.keywords):
    raise ValueError('** is not allowed')
  keys = [k.arg for k in node.keywords]
  if twice := sorted({k for k in keys if keys.count(k) > 1}):
    raise ValueError(f'{", ".join(twice)} given twice')
  for value in (*node.args, *(k.value for k in node.keywords)):
    if isinstance(value, ast.Call):
      _check_call(value, depth + 1)


def _literal(text: str, node: ast.expr):
  if isinstance(node, ast.Name):
    return annotations.Word(node.id)
  if isinstance(node, ast.Call):
    return Spec(ast.get_source_segment(text, node))
  return ast.literal_eval(node)


def _load(kind: str) -> dict[str, Callable]:
  if kind not in forms.MODULES:
    raise ValueError(
      f'Unknown kind {show(kind)}.{nearest(kind, forms.MODULES)} '
      f'Known: {", ".join(forms.MODULES)}.'
    )
  for module in forms.MODULES[kind]:
    importlib.import_module(module)
  return _FUNCTIONS[kind]

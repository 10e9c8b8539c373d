"""Reads config files and overrides; defaults are in configs/common.py.

A config file has `get_config(arg='')`, which returns an
`ml_collections.ConfigDict`. It holds every key, so a key that is not in the
file does not exist: `--config.a.b=value` changes one and never makes one.
"""

import ast
import functools
import inspect
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from ml_collections import config_dict

from rlvr_jax import (
  config_file,
  config_limits,
  processes,
  registry,
  storage,
)

ABSENT = '(absent)'
_BOOLS = {'true': True, '1': True, 'false': False, '0': False}


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Takes the overrides out of a command line.

  `['--config=x.py', '--config.a=1', '--config.b', '2']` gives
  `(['--config=x.py'], ['a=1', 'b=2'])`.
  """
  rest, overrides = [], []
  words = iter(argv)
  for word in words:
    if not word.startswith('--config.'):
      rest.append(word)
      continue
    override = word.removeprefix('--config.')
    if '=' not in override:
      value = next(words, None)
      if value is None or value.startswith('--'):
        raise ValueError(f'{word} has no value: write {word}=VALUE.')
      override = f'{override}={value}'
    overrides.append(override)
  return rest, overrides


def load(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """The locked config of `FILE.py[:ARG]` with `a.b=value` overrides applied.

  FILE.json, as a run writes it, is read too, and with it the functions that
  the run's config file registered.

  Raises:
    ValueError: no such file (lists those beside it), an ARG that is not
      taken, an unknown key, a value of another type or outside
      `config_limits.RULES`.
  """
  name, _, arg = spec.partition(':')
  if pathlib.Path(name).suffix == '.json':
    config = _from_json(name, arg)
    config_file.recall(pathlib.Path(name).parent)
  else:
    get_config = config_file.module(spec).get_config
    takes = inspect.signature(get_config).parameters
    if arg and not takes:
      raise ValueError(
        f'{name} takes no ARG; {registry.show(spec)} gives '
        f'{registry.show(arg)}.'
      )
    config = get_config(arg) if arg else get_config()
  for override in overrides:
    _apply(config, override)
  config_limits.check(flatten(config))
  return config.lock()


def run_main(main: Callable) -> Callable:
  """A script's `main(argv)`, made to print what it refuses.

  The result is the exit status: main's own, else that of `processes.status`.
  Errors of subclasses, such as JAX's and those of decoding, are not ours and
  keep their traceback, which is what helps then.
  """

  @functools.wraps(main)
  def run(argv: Sequence[str] | None = None) -> int:
    try:
      return main(sys.argv[1:] if argv is None else argv) or 0
    except KeyboardInterrupt as e:
      return processes.status(e)
    except Exception as e:
      ours = type(e) in (ValueError, RuntimeError, FloatingPointError)
      if not (ours or isinstance(e, OSError)):
        raise
      print(f'error: {e}', file=sys.stderr)
      return processes.status(e)

  return run


def of_run(workdir, overrides: Sequence[str]) -> ml_collections.ConfigDict:
  """The config of the run in `workdir` for evaluating, with `overrides`.

  Raises:
    ValueError: no run there, what `load` refuses, or several greedy samples.
    ConnectionError: see `storage.folder`.
  """
  path = storage.folder(workdir) / 'config.json'
  if not path.is_file():
    raise ValueError(
      f'{workdir} holds no run: there is no config.json in it. Give the '
      '--workdir of scripts/train.py.'
    )
  config = load(str(path), overrides)
  with registry.naming(str(path)):
    config_limits.check_complete(flatten(config))
  greedy = config.eval.temperature == 0 and not config.eval.branch
  if config.eval.samples > 1 and greedy:
    raise ValueError(
      f'{config.eval.samples} samples at temperature 0 are the same one. Give '
      f'--temperature={config.temperature}, or --samples=1.'
    )
  return config


# Flags of the commands that evaluate -> (key of the config, what it is).
EVAL_FLAGS = {
  'samples': ('eval.samples', 'of each task: pass@k needs several'),
  'tasks': ('eval.num_tasks', 'the first N of eval.split'),
  'temperature': ('eval.temperature', '0 is greedy'),
  'env': ('env', "other tasks, such as 'gsm8k()'"),
}


def add_eval_flags(parser, overrides: list[str]) -> None:
  """Flags of an `argparse` parser that append to `overrides`."""
  for name, (key, text) in EVAL_FLAGS.items():
    parser.add_argument(
      f'--{name}',
      metavar='VALUE',
      type=lambda value, key=key: overrides.append(f'{key}={value}'),
      help=f"{text}; default: the run's config",
    )


def flatten(config) -> dict[str, Any]:
  """{'a.b': value} of a config, a `Recorder` or nested dicts."""
  flat = {}
  for key, value in _plain(config).items():
    if isinstance(value, Mapping):
      flat |= {f'{key}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def read_json(path) -> dict:
  """What `to_json` wrote. ValueError for a file that holds no JSON object."""
  try:
    values = json.loads(pathlib.Path(path).read_text('utf-8'))
    if not isinstance(values, dict):
      raise ValueError(f'it holds {registry.show(values, 60)}, no object')
  except (ValueError, RecursionError) as e:
    raise ValueError(
      f'{path} is not a config in JSON ({registry.show(str(e))}). Restore it, '
      'or use a new workdir.'
    ) from e
  return values


def jsonable(x):
  """What JSON can hold of mappings, sequences, numbers and arrays.

  NaN and infinities, which JSON lacks, become 'nan', 'inf' and '-inf'.
  """
  if isinstance(x, Mapping):
    return {str(k): jsonable(v) for k, v in x.items()}
  if isinstance(x, (tuple, list)):
    return [jsonable(v) for v in x]
  if hasattr(x, '__array__'):  # of numpy or JAX
    x = np.asarray(x)
    if x.ndim:
      return [jsonable(v) for v in x]
    # The shortest text that gives the same float32, not its float64 digits.
    x = float(str(x)) if x.dtype == np.float32 else x.item()
  if isinstance(x, float) and not math.isfinite(x):
    return str(x)
  return x


def to_json(config) -> str:
  """Indented JSON, keys sorted; NaN and infinities as strings."""
  return json.dumps(jsonable(_plain(config)), indent=2, allow_nan=False) + '\n'


def diff(old, new) -> dict[str, tuple[Any, Any]]:
  """{'a.b': (old value, new value)} where two configs differ.

  Compares what JSON keeps, so a tuple equals a list. A key that one of them
  lacks has the value `ABSENT` there.
  """
  old, new = (flatten(jsonable(_plain(c))) for c in (old, new))
  keys = [*old, *(k for k in new if k not in old)]
  pairs = {k: (old.get(k, ABSENT), new.get(k, ABSENT)) for k in keys}
  return {k: (a, b) for k, (a, b) in pairs.items() if not _same(a, b)}


class Recorder:
  """Reads like the config it wraps and remembers which keys were read."""

  def __init__(self, config, *, _prefix='', _read=None):
    object.__setattr__(self, '_config', config)
    object.__setattr__(self, '_prefix', _prefix)
    object.__setattr__(self, '_read', set() if _read is None else _read)

  def __getitem__(self, key):
    value, name = self._config[key], f'{self._prefix}{key}'
    if isinstance(value, (ml_collections.ConfigDict, Mapping)):
      return Recorder(value, _prefix=f'{name}.', _read=self._read)
    self._read.add(name)
    return value

  def __getattr__(self, key):
    if key.startswith('__'):
      raise AttributeError(key)
    try:
      return self[key]
    except KeyError as e:
      raise AttributeError(str(e)) from e

  def __setattr__(self, key, value):
    raise AttributeError(
      f'A recorded config is read only: {registry.show(key)} was set.'
    )

  def __contains__(self, key):
    return key in self._config

  def __iter__(self) -> Iterator[str]:
    return iter(self._config)

  def __len__(self):
    return len(self._config)

  def keys(self):
    return self._config.keys()

  def values(self):
    return [self[k] for k in self]

  def items(self):
    return [(k, self[k]) for k in self]

  def unread(self) -> list[str]:
    """Leaf keys that nobody read. Writing the config down is no reading."""
    names = [f'{self._prefix}{k}' for k in flatten(self)]
    return sorted(set(names) - self._read)


def _apply(config, override):
  name, eq, text = override.partition('=')
  if not eq:
    raise ValueError(f'--config.{override} has no value: write KEY=VALUE.')
  known = flatten(config)
  *groups, last = name.split('.')
  at = config
  for group in groups:
    at = at[group] if group in at and _is_group(at[group]) else {}
  if last not in at:
    raise ValueError(
      f'The config has no key {registry.show(name)}.'
      f'{registry.nearest(name, known)} Known: {", ".join(known)}.'
    )
  if _is_group(at[last]):
    raise ValueError(
      f'{registry.show(name)} is a group of keys; set one of: '
      f'{", ".join(f"{name}.{k}" for k in flatten(at[last]))}.'
    )
  at[last] = _parse(name, text, at[last], at.get_type(last))


def _parse(name, text, current, kind):
  """`text` as a value of type `kind`; strings are taken raw."""
  try:
    if text == 'None' and current is None:
      return None
    if kind is str:
      return text
    if kind is bool:
      return _BOOLS[text.lower()]
    if kind in (int, float) and text.isascii():
      return kind(text)
    if kind is type(None):
      return _literal_or_text(text)
    value = ast.literal_eval(text)
    if isinstance(value, (tuple, list)) and kind in (tuple, list):
      return kind(_elements(value, current))
  except (ValueError, SyntaxError, KeyError, RecursionError, MemoryError):
    pass
  example = {
    bool: 'true or false',
    int: 'a whole number such as 8',
    float: 'a number such as 1e-6',
  }.get(kind, f'a literal such as {current or (1, 2)!r}')
  raise ValueError(
    f'{registry.show(name)} is {kind.__name__}, now {registry.show(current)}; '
    f'{registry.show(text)} is not. Give {example}.'
  )


def _elements(value, current):
  """Elements of the type that the current ones have; ints are floats."""
  kinds = {type(x) for x in current or ()}
  if len(kinds) != 1:
    return value
  kind = kinds.pop()
  value = [float(x) if kind is float and type(x) is int else x for x in value]
  if any(type(x) is not kind for x in value):
    raise ValueError
  return value


def _literal_or_text(text):
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _from_json(name, arg):
  path = pathlib.Path(name)
  config_file.must_exist(path)
  if arg:
    raise ValueError(f'{name} takes no ARG; {registry.show(arg)} was given.')
  try:
    return ml_collections.ConfigDict(_from_jsonable(read_json(path)))
  except (TypeError, AttributeError) as e:
    raise ValueError(
      f'{name} is not a config in JSON: {registry.show(str(e))}.'
    ) from e


def _is_group(value):
  return isinstance(value, ml_collections.ConfigDict)


def _plain(config):
  if isinstance(config, Recorder):
    config = config._config
  if isinstance(config, config_dict.ConfigDict):
    return config.copy_and_resolve_references().to_dict()
  return config


def _from_jsonable(x):
  if isinstance(x, dict):
    return {k: _from_jsonable(v) for k, v in x.items()}
  if isinstance(x, list):
    return tuple(_from_jsonable(v) for v in x)
  return float(x) if x in ('nan', 'inf', '-inf') else x


def _same(a, b):
  """Equal, and not only as True equals 1."""
  return a == b and isinstance(a, bool) == isinstance(b, bool)

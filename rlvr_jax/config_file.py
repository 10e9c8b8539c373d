"""Config files as code: loaded, kept in the run, loaded again from there.

A config file may register functions of its own (`@registry.register` in the
file; see configs/forkme.py). So a run keeps the file: its text as DIR/config.py
and, in DIR/config_file.json, where it was, its ARG, and what it registered.
Commands that read the run load the kept text, which is what the run was made
with, wherever the file went since. It is Python and does what it likes: take
runs from people whose code you would run.
"""

import ast
import contextlib
import difflib
import functools
import importlib
import json
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

from rlvr_jax import registry

TEXT, RECORD = 'config.py', 'config_file.json'  # in a run's directory


class Source(NamedTuple):
  """A config file as it was when it was loaded."""

  file: str  # absolute
  arg: str
  text: str
  registers: tuple[str, ...]  # 'reward short': what it registered


_LOADED: dict[str, Source] = {}  # by file


def module(spec: str) -> types.ModuleType:
  """The module of the config file that `FILE.py[:ARG]` names.

  Raises:
    ValueError: no such file (lists those beside it), or it is no config.
  """
  path = pathlib.Path(spec.partition(':')[0])
  must_exist(path)
  if path.suffix != '.py':
    raise ValueError(
      f'{path} is no config file: give a FILE.py. A run names the one that it '
      f'came from in its {RECORD}.'
    )
  loaded = execute(path)
  if not hasattr(loaded, 'get_config'):
    raise ValueError(f'{path} has no get_config(), so it is not a config.')
  return loaded


def execute(path: pathlib.Path) -> types.ModuleType:
  """Runs a file as a module, with `from configs import ...` from anywhere."""
  path = path.resolve()
  text = path.read_text('utf-8')
  loaded, registers = _run(text, path, path)
  before = _LOADED.get(str(path))
  if before:  # what it imports registers only once
    registers = tuple(dict.fromkeys((*before.registers, *registers)))
  _LOADED[str(path)] = Source(str(path), '', text, registers)
  return loaded


def source(spec: str) -> Source | None:
  """What a run of `spec`, loaded before, keeps of its file.

  None for a FILE.json that lies beside no kept file.
  """
  name, _, arg = spec.partition(':')
  path = pathlib.Path(name)
  if path.suffix == '.json':
    return kept(path.parent)
  return _LOADED[str(path.resolve())]._replace(arg=arg)


def defaults(spec: str):
  """`base()` of the configs/common.py that a config imports; None without."""
  path = pathlib.Path(spec.partition(':')[0]).resolve()
  if path.suffix == '.json' and (found := kept(path.parent)):
    path = pathlib.Path(found.file)
  with _on_path(_roots(path)):
    try:
      return importlib.import_module('configs.common').base()
    except ImportError:
      return None


def texts(source: Source) -> dict[str, str]:
  """{name: text} of the files that a run keeps, in the order of writing."""
  values = source._asdict()
  text = values.pop('text')
  return {TEXT: text, RECORD: json.dumps(values, indent=2) + '\n'}


def kept(folder) -> Source | None:
  """What a run kept of its config file; None if it came from none.

  Raises:
    ValueError: RECORD cannot be read, or functions are needed whose file is
      gone, here and where it was.
  """
  path = pathlib.Path(folder) / RECORD
  if not path.is_file():
    return None
  try:
    values = json.loads(path.read_text('utf-8'))
    file, arg = str(values['file']), str(values['arg'])
    registers = tuple(map(str, values['registers']))
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} is damaged ({type(e).__name__}: {e}). Restore it, or remove it '
      'if the config registers no functions of its own.'
    ) from e
  for place in (path.with_name(TEXT), pathlib.Path(file)):
    if place.is_file():
      return Source(file, arg, place.read_text('utf-8'), registers)
  if registers:
    raise ValueError(
      f'{folder} uses {", ".join(registers)}, of {file}. That file is gone, and '
      f'so is its copy, {path.with_name(TEXT)}: bring one of them back.'
    )
  return Source(file, arg, '', registers)


def recall(folder) -> None:
  """Registers again what the config file of a run registered.

  Raises:
    ValueError: see `kept`, or the file cannot be loaded any more.
  """
  found = kept(folder)
  if found is None or not found.registers:
    return
  original = pathlib.Path(found.file)
  now = original.read_text('utf-8') if original.is_file() else found.text
  if names := differing(found.text, now):
    _notice(
      f'notice: {", ".join(names)} of {original} changed since {folder} was '
      f'trained. Used as kept in {pathlib.Path(folder) / TEXT}.'
    )
  try:
    _run(found.text, pathlib.Path(folder) / TEXT, original)
  except ValueError:
    raise
  except Exception as e:  # of code that was written elsewhere
    raise ValueError(
      f'{folder} uses {", ".join(found.registers)}, of {original}, kept as '
      f'{pathlib.Path(folder) / TEXT}. It cannot be loaded: '
      f'{type(e).__name__}: {e}. Bring back what it imports, or mend the copy.'
    ) from e


def check(folder, source: Source | None) -> None:
  """ValueError if a run would go on with functions that changed since."""
  old = kept(folder) if source else None
  if old is None or not old.registers:
    return
  if names := differing(old.text, source.text):
    raise ValueError(
      f'{folder} was trained with other functions: {", ".join(names)} of '
      f'{source.file} changed since. Bring them back from '
      f'{pathlib.Path(folder) / TEXT}, or use a new workdir.'
    )


def differing(old: str, new: str) -> list[str]:
  """Names that `new` defines otherwise, of what `old` registers and calls.

  Comments, docstrings and layout count for nothing, nor does the rest of the
  file: what get_config returns is compared by value.
  """
  now = _definitions(new)
  return sorted(
    name for name, code in _registered(old).items() if now.get(name) != code
  )


def _registered(text: str) -> dict[str, list[str]]:
  """{name: code} of registered functions, and of what they use of the file."""
  tree, known = _parse(text), _definitions(text)
  uses = {}
  for node in tree.body:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    for name in _binds(node):
      uses.setdefault(name, set()).update(names)
  todo = [
    node.name
    for node in tree.body
    if any(_registers(d) for d in getattr(node, 'decorator_list', ()))
  ]
  found = {}
  while todo:
    name = todo.pop()
    if name in known and name not in found:
      found[name] = known[name]
      todo += uses.get(name, ())
  return found


def _definitions(text: str) -> dict[str, list[str]]:
  """{name: code} of all that a file defines at its top."""
  found = {}
  for node in _parse(text).body:
    for inner in ast.walk(node):
      body = getattr(inner, 'body', None)
      if isinstance(body, list) and body and _is_text(body[0]):
        del body[0]
    if isinstance(node, ast.Import | ast.ImportFrom):  # each name by itself
      for a in node.names:
        code = f'{getattr(node, "module", "")}.{a.name}'
        found.setdefault(a.asname or a.name.partition('.')[0], []).append(code)
      continue
    for name in _binds(node):
      found.setdefault(name, []).append(ast.dump(node))
  return found


def _parse(text: str) -> ast.Module:
  try:
    return ast.parse(text)
  except SyntaxError:  # it defines nothing
    return ast.Module([], [])


def _binds(node) -> set[str]:
  if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
    return {node.name}
  return {
    n.id
    for n in ast.walk(node)
    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
  }


def _registers(decorator) -> bool:
  """Whether it is `registry.register(...)`, by whatever name of registry."""
  called = getattr(decorator, 'func', None)
  name = getattr(called, 'attr', None) or getattr(called, 'id', None)
  return name == 'register'


def _is_text(node) -> bool:
  return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _run(text, path, original) -> tuple[types.ModuleType, tuple[str, ...]]:
  """(module, what it registered) of the text at `path`.

  Args:
    original: where the file was written: names the module, and is where it
      finds `configs`.
  """
  loaded = types.ModuleType(f'config_{original.stem}')
  loaded.__file__ = str(original)
  sys.modules[loaded.__name__] = loaded  # dataclasses look themselves up there
  before = registry.registered()
  with _on_path(_roots(original)):
    exec(compile(text, str(path), 'exec'), vars(loaded))
  own = tuple(
    f'{kind} {name}'
    for (kind, name), fn in registry.registered().items()
    if before.get((kind, name)) is not fn
    and not fn.__module__.startswith('rlvr_jax.')
  )
  return loaded, own


def _roots(file: pathlib.Path) -> list[str]:
  """Where `configs` is imported from: around the file, then this repository."""
  above = [p.parent for p in file.parents if p.name == 'configs']
  return [str(p) for p in (*above[:1], pathlib.Path(__file__).parents[1])]


def must_exist(path: pathlib.Path) -> None:
  """ValueError, with the files there are, unless `path` is one."""
  if path.is_file():
    return
  folder = path.parent if path.parent.is_dir() else pathlib.Path('configs')
  found = sorted(folder.rglob('*.py')) if folder.is_dir() else []
  names = [str(p) for p in found if p.name not in ('__init__.py', 'common.py')]
  by_name = {pathlib.Path(name).name: name for name in names}
  like = difflib.get_close_matches(path.name, by_name, n=1, cutoff=0.5)
  guess = f' Did you mean {by_name[like[0]]!r}?' if like else ''
  raise ValueError(
    f'No config file {registry.show(str(path))}.{guess} There are: '
    f'{", ".join(names) or f"none in {folder}"}.'
  )


@contextlib.contextmanager
def _on_path(folders: list[str]) -> Iterator[None]:
  sys.path[:0] = folders
  try:
    yield
  finally:
    for folder in folders:
      sys.path.remove(folder)


@functools.cache
def _notice(text: str) -> None:
  """Says it once in a process."""
  print(text, file=sys.stderr, flush=True)

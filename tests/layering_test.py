"""Who may import whom: CONTRIBUTING.md's table, held against the source."""

import ast
import collections
import functools
import pathlib
import re
import subprocess
import sys

import pytest

import rlvr_jax

PACKAGE = pathlib.Path(rlvr_jax.__file__).parent
ROOT = PACKAGE.parent
NO_JAX = ('verifiers', 'envs', 'rewards')  # unit-tested on a laptop
MATHS = ('ops', 'stats')
GROUND = ('enums', 'annotations', 'registry', 'tasks', 'config_limits')
DEVICE = {'jax', 'jaxlib', 'flax', 'optax', 'orbax', 'jaxtyping'}
HEAVY = {
  'flax',
  'matplotlib',
  'mpmath',
  'ml_collections',
  'optax',
  'orbax',
  'sympy',
  'tensorflow',
  'tokenizers',
  'torch',
}
# Base names that stand for the same thing in two folders.
SHARED_NAMES = {'__init__'}


def imports(source, module, is_package):
  """Full names that a module imports, at any depth of its code."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        parts = module.split('.')
        up = node.level - is_package
        base = '.'.join(parts[: len(parts) - up] + ([base] if base else []))
      found |= {f'{base}.{alias.name}' for alias in node.names}
  return found


@functools.cache
def graph():
  """{module: full names it imports} for all of the package."""
  edges = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    is_package = parts[-1] == '__init__'
    module = '.'.join(parts[:-1] if is_package else parts)
    edges[module] = imports(path.read_text(), module, is_package)
  return edges


@functools.cache
def table():
  """{folder or file: what it may import} of CONTRIBUTING.md, in its order."""
  text = (ROOT / 'CONTRIBUTING.md').read_text()
  rows = re.findall(r'^\| `([\w.]+)` \|[^|]*\|([^|]*)\|$', text, re.M)
  assert rows
  out = {}
  for name, may in rows:
    everything = may.strip() == 'everything above'
    out[name] = set(out) if everything else set(may.split())
  return out


def box(name):
  """'rlvr_jax.ops.kl' -> 'ops'; '' for the package itself or a stranger."""
  pieces = name.split('.')
  if pieces[0] != 'rlvr_jax' or len(pieces) == 1:
    return ''
  two = '.'.join(pieces[1:3])
  return two if two in table() else pieces[1]


@functools.cache
def boxes():
  """{folder or file: those it imports}."""
  edges = {}
  for module, targets in graph().items():
    if box(module):
      found = edges.setdefault(box(module), set())
      found |= {box(t) for t in targets} - {'', box(module)}
  return edges


def test_the_table_names_every_folder_and_file():
  there = {p.stem for p in PACKAGE.glob('*.py')} | {
    p.name for p in PACKAGE.iterdir() if (p / '__init__.py').exists()
  }
  names = {name.partition('.')[0] for name in table()}
  assert names == there - {'__init__'}


def test_each_imports_only_what_its_line_names():
  wrong = [
    f'{name} imports {target}'
    for name, targets in boxes().items()
    for target in targets - table()[name]
  ]
  assert not wrong


def test_each_line_names_only_what_is_imported():
  idle = [
    f'{name} does not import {target}'
    for name, targets in table().items()
    for target in targets - boxes()[name]
    if name != 'train'
  ]
  assert not idle


def acyclic(edges):
  edges = {a: set(b) for a, b in edges.items()}
  while leaves := {m for m, targets in edges.items() if not targets}:
    edges = {m: t - leaves for m, t in edges.items() if m not in leaves}
  assert not edges, f'These import each other in a circle: {sorted(edges)}'


def test_no_circle_of_folders():
  acyclic(boxes())


def test_no_circle_of_modules():
  modules = set(graph())

  def known(name):
    while name and name not in modules:
      name = name.rpartition('.')[0]
    return name

  acyclic(
    {
      m: {known(t) for t in targets} & modules - {m, 'rlvr_jax'}
      for m, targets in graph().items()
    }
  )


def test_no_import_is_hidden_from_the_interpreter():
  wrong = [p for p in PACKAGE.rglob('*.py') if 'TYPE_CHECKING' in p.read_text()]
  assert not wrong


def test_no_two_files_share_a_name():
  count = collections.Counter(p.stem for p in PACKAGE.rglob('*.py'))
  assert {name for name, n in count.items() if n > 1} <= SHARED_NAMES


def test_outside_imports_of_the_ground():
  allowed = {
    'jax',
    'numpy',
    'jaxtyping',
    'rlvr_jax',
    *sys.stdlib_module_names,
  }
  wrong = []
  for module, targets in graph().items():
    roots = {t.split('.')[0] for t in targets}
    if box(module) in MATHS:
      wrong += [f'{module} imports {r}' for r in roots - allowed]
    if box(module) in (*NO_JAX, *GROUND):
      wrong += [f'{module} imports {r}' for r in roots & DEVICE]
  assert not wrong


def test_no_torch_and_no_tensorflow_anywhere():
  wrong = [
    module
    for module, targets in graph().items()
    if {t.split('.')[0] for t in targets} & {'torch', 'tensorflow'}
  ]
  assert not wrong


def test_the_parser_sees_every_form_of_import():
  source = """
import jax.numpy as jnp
from rlvr_jax import types, ops
from . import masked
from .. import train
from ..models.config import Config
def f():
  if True:
    import torch
"""
  found = imports(source, 'rlvr_jax.ops.kl', False)
  assert found == {
    'jax.numpy',
    'rlvr_jax.types',
    'rlvr_jax.ops',
    'rlvr_jax.ops.masked',
    'rlvr_jax.train',
    'rlvr_jax.models.config.Config',
    'torch',
  }
  assert 'rlvr_jax.ops.masked' in imports(
    'from . import masked', 'rlvr_jax.ops', True
  )


def test_files_can_be_read_at_a_sitting():
  files = [p for d in ('rlvr_jax', 'scripts') for p in (ROOT / d).rglob('*.py')]
  long = {
    str(p.relative_to(ROOT)): n
    for p in files
    if (n := len(p.read_text().splitlines())) > 400
  }
  assert not long


def words(program):
  """What a Python process prints, as a set of words."""
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return set(done.stdout.split())


@pytest.mark.parametrize(
  ('name', 'banned'),
  [
    *((name, HEAVY) for name in MATHS),
    ('rewards', HEAVY | DEVICE),
    ('verifiers', HEAVY | DEVICE),
    ('envs', DEVICE | {'torch', 'tensorflow'}),
  ],
)
def test_importing_it_pulls_in_nothing_heavy(name, banned):
  program = f"""
import importlib, pkgutil, sys
import rlvr_jax.{name} as package
for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
  importlib.import_module(m.name)
print(*sorted({{name.split('.')[0] for name in sys.modules}}))
"""
  loaded = words(program)
  assert 'rlvr_jax' in loaded
  assert not loaded & banned


def test_starting_a_run_draws_nothing_and_needs_no_kernel_of_a_tpu():
  """With these, importing `train` took a half longer."""
  names = (
    'rlvr_jax.train',
    'matplotlib',
    'scipy.special',
    'jax.experimental.pallas.ops',
  )
  program = f"""
import sys
from rlvr_jax import train
print(*(name for name in {names} if name in sys.modules))
"""
  assert words(program) == {'rlvr_jax.train'}

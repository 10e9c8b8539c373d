"""The floors: who may import whom, parsed from the source, lazy ones too."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

import rlvr_jax

PACKAGE = pathlib.Path(rlvr_jax.__file__).parent
ROOT = PACKAGE.parent

FLOORS = {
  'enums tasks digests annotations registry types ops verifiers rewards envs text stats': 0,
  'models io checkpoint': 1,
  'algorithm rollout signals optim data': 2,
  'step micro source samples evaluate summary compare policy': 3,
  'programs checks report writer aot': 3,
  'train recipes alarms': 4,
}
FLOOR = {name: n for names, n in FLOORS.items() for name in names.split()}
# What the parts of the ground floor may import of the package and, for the
# two that must load on a laptop, of other people's.
INSIDE = {
  'enums': {'enums'},
  'annotations': {'annotations'},
  'registry': {'registry', 'annotations'},
  'types': {'types', 'enums'},
  'tasks': {'tasks', 'registry'},
  'digests': {'digests'},
  'ops': {'ops', 'enums', 'types', 'registry'},
  'stats': {'stats', 'types'},
  'verifiers': {'verifiers', 'tasks', 'enums', 'registry'},
  'rewards': {
    'verifiers',
    'rewards',
    'envs',
    'text',
    'enums',
    'annotations',
    'registry',
    'tasks',
    'digests',
  },
  'envs': {
    'verifiers',
    'rewards',
    'envs',
    'text',
    'enums',
    'registry',
    'tasks',
    'digests',
  },
  'text': {
    'verifiers',
    'rewards',
    'envs',
    'text',
    'enums',
    'registry',
    'tasks',
    'digests',
  },
}
OPS_OUTSIDE = {'jax', 'numpy', 'jaxtyping'}
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


def part(name):
  """'rlvr_jax.ops.kl' -> 'ops'; '' for the package itself or a stranger."""
  pieces = name.split('.')
  return pieces[1] if pieces[0] == 'rlvr_jax' and len(pieces) > 1 else ''


@functools.cache
def parts():
  """{part: parts it imports}, over all of a part's modules."""
  edges = {}
  for module, targets in graph().items():
    if part(module):
      edges.setdefault(part(module), set()).update(
        {part(t) for t in targets} - {''}
      )
  return edges


def floor(name):
  """The floor of a part; one not yet in the table stands on its imports."""
  if name in FLOOR:
    return FLOOR[name]
  return max((floor(t) for t in parts().get(name, ()) if t != name), default=0)


def test_no_module_imports_a_higher_floor():
  wrong = [
    f'{name} (floor {floor(name)}) imports {target} (floor {floor(target)})'
    for name, targets in parts().items()
    for target in targets
    if floor(target) > floor(name)
  ]
  assert not wrong


def test_the_ground_floor_imports_only_what_it_may():
  wrong = [
    f'{name} imports {target}'
    for name, allowed in INSIDE.items()
    for target in parts().get(name, ())
    if target in FLOOR and target not in allowed
  ]
  assert not wrong


def test_outside_imports_of_the_ground_floor():
  allowed = OPS_OUTSIDE | set(sys.stdlib_module_names) | {'rlvr_jax'}
  wrong = []
  for module, targets in graph().items():
    roots = {t.split('.')[0] for t in targets}
    if part(module) in ('ops', 'stats'):
      wrong += [f'{module} imports {r}' for r in roots - allowed]
    if part(module) in (
      'verifiers',
      'rewards',
      'envs',
      'text',
      'enums',
      'annotations',
      'registry',
    ):
      wrong += [f'{module} imports {r}' for r in roots & DEVICE]
  assert not wrong


def test_no_torch_and_no_tensorflow_anywhere():
  wrong = [
    module
    for module, targets in graph().items()
    if {t.split('.')[0] for t in targets} & {'torch', 'tensorflow'}
  ]
  assert not wrong


def test_no_cycles():
  modules = set(graph())

  def known(name):
    return name if name in modules else name.rpartition('.')[0]

  edges = {
    m: {known(t) for t in targets} & modules - {m, 'rlvr_jax'}
    for m, targets in graph().items()
  }
  while leaves := {m for m, targets in edges.items() if not targets}:
    edges = {m: t - leaves for m, t in edges.items() if m not in leaves}
  assert not edges, f'These import each other in a circle: {sorted(edges)}'


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


@pytest.mark.parametrize(
  ('name', 'banned'),
  [
    ('ops', HEAVY),
    ('stats', HEAVY),
    ('rewards', HEAVY | {'jax'}),
    ('verifiers', HEAVY | {'jax'}),
    ('envs', {'jax', 'torch', 'tensorflow'}),
    ('text', {'jax', 'torch', 'tensorflow'}),
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
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  loaded = set(done.stdout.split())
  assert 'rlvr_jax' in loaded
  assert not loaded & banned

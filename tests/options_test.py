"""Every option of every registered function, given what it cannot be.

What comes out is a function that works, or a ValueError at start that names
the option and shows its value in short: no other exception, no long wait.
"""

import functools
import inspect
import json
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import algorithm, forms, registry
from rlvr_jax.envs import guessing, tfds
from rlvr_jax.io import load
from rlvr_jax.ops import ratio
from rlvr_jax.ops.distill import reshaped
from rlvr_jax.ops.divergence import value_and_slope
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import context, task_sampling
from rlvr_jax.tasks import Task

BASE = runpy.run_path(
  str(pathlib.Path(__file__).parents[1] / 'configs' / 'common.py')
)['base']
BAD = [
  'false', 'true', 'none', 'True', 'False', 'None', 'nan', 'inf', 'x', "''",
  "'false'", '0', '-1', '1', '2', '0.5', '1.5', '1e30', '-1e30', '1e-300',
  '1e999', '-1e999', '10' + '0' * 22, '1' + '0' * 5000, '0x' + 'f' * 5000,
  '()', '(1, 2)', '[2, 1]', '{}', '{1}', "b'x'", '1j', '...', '-0.0',
  "'" + 'y' * 9000 + "'", 'grpo(eps=1)', 'outcome(correct=x)', "'arithmetic'",
  '1_0', '2**70', "'\\ud800'", "'\\0'", "'١'", '(1, (2,))', "('a', 1)",
]  # fmt: skip
# What an option needs beside it.
BESIDE = {
  ('reward', 'format'): 'boxed',
  ('reward', 'contains'): 'x',
  ('reward', 'inverse'): 'outcome',
  ('reward', 'flip'): 'outcome',
  ('reward', 'permuted'): 'outcome',
  ('reward', 'length_penalty'): '0.1',
  ('reward', 'overlong'): '8, 4',
  ('aggregate', 'constant'): '8',
  ('env', 'steps'): 'chain(train_size=200)',
  ('env', 'jsonl'): "'rows.jsonl'",
  ('env', 'folder'): "'hub'",
  ('env', 'tfds'): 'toy',
  ('pick', 'choice'): 'o',
  ('env', 'pairs'): "'pairs.jsonl'",
  ('env', 'labelled'): "'rows.jsonl'",
  ('env', 'told_programs'): 'programs()',
  ('env', 'answer_pairs'): 'arithmetic',
  ('reward', 'reward_model'): "'rm'",
  ('env', 'reasoning_gym'): 'chain_sum',
  ('env', 'judgments'): 'comparisons()',
}
KEYS = {
  'estimator': 'estimate',
  'credit': 'credit',
  'surrogate': 'surrogate',
  'correction': 'correction',
  'aggregate': 'aggregate',
  'kl': 'kl',
  'preference': 'preference',
  'reward_loss': 'reward_loss',
  'pairs': 'pairs',
}


@functools.cache
def functions():
  """{(kind, name): function}."""
  found = {
    (kind, name): registry._FUNCTIONS[kind][name]
    for kind in forms.MODULES
    for name in registry.names(kind)
  }
  of = lambda name, module: getattr(__import__(module, fromlist=[name]), name)
  worlds = guessing.WORLDS.items()
  return found | {('world', name): of(name, module) for name, module in worlds}


def options(fn):
  return [
    p
    for p in inspect.signature(fn).parameters.values()
    if p.kind is p.KEYWORD_ONLY
  ]


OPTIONS = [
  (kind, name, p.name)
  for (kind, name), fn in functions().items()
  for p in options(fn)
]


def spec_of(kind, name, option, value):
  """A spec with one bad option; what else it needs stands beside it."""
  fn = functions()[kind, name]
  given = BESIDE.get((kind, name), '')
  needed = [p.name for p in options(fn) if p.default is p.empty]
  beside = [
    f'{k}={v.strip()}'
    for k, v in zip(needed, given.split(','), strict=False)
    if k != option
  ]
  return f'{name}({", ".join([*beside, f"{option}={value}"])})'


def start(kind, spec):
  """What a run does with a spec at its start, and a little of its use."""
  if kind in KEYS:
    c = BASE().algo
    c.kl = 'k2'
    c[KEYS[kind]] = spec
    made = algorithm.from_config(c)
    for leaf in jax.tree.leaves(used(made, kind)):
      assert jnp.isfinite(leaf).all(), spec
  elif kind == 'reward':
    base.build([spec], [1.0])
  elif kind == 'model':
    load.load_config(spec)
  elif kind == 'judge':
    registry.get(kind, spec)().prompt('2+2?', ['4', '5'])
  elif kind == 'task_sampling':
    made = registry.get(kind, spec)()
    if made.log_weight is not None:
      a = np.array([1e-6, 1.0, 1.0, 1e5, 3e4])
      logs = made.log_weight(a, a[::-1])
      task_sampling.probabilities(logs, np.ones(5), made.floor)
  elif kind == 'divergence':
    made = registry.get(kind, spec)()
    logp, logq = jnp.log(jnp.array([[[0.5, 0.3, 0.2]], [[0.2, 0.2, 0.6]]]))
    run = jax.jit(functools.partial(value_and_slope, divergence=made))
    for leaf in run(logp, logq, jnp.zeros(1, int)):
      assert jnp.isfinite(leaf).all(), spec
  elif kind == 'distill':
    made = registry.get(kind, spec)()
    x, mask = jnp.array([[-1.0, -2.0]]), jnp.ones((1, 2), bool)
    assert jnp.isfinite(reshaped(made, x, x, x - 1, mask, mask)).all()
  elif kind == 'context':
    task = Task('a', 'q', '1', 'math', {'solution': 's'})
    rows = [[base.Transcript('x', 1, v, v) for v in (0, 1)]] * 2
    found = registry.get(kind, spec)([task, task], rows, 0, 0)
    assert found is None or isinstance(found, context.Context)
  elif kind == 'lora':
    made = registry.get(kind, spec)()
    assert made.scale > 0
    assert made.on
  elif kind == 'pick':
    record = {'o': ['5', '6']}
    registry.get(kind, spec)('A', record)
  else:
    if kind == 'world':
      spec = f'guessing(world={spec!r})'
    made = registry.get('env', spec)()
    for split in made.values():
      if len(split):
        assert isinstance(split[0], Task)
        assert isinstance(split[len(split) - 1], Task)


def used(made, kind):
  """What comes of two rows from a function of this kind."""
  x = jnp.array([[0.0, -1.0, -2.0], [0.0, -3.0, -0.5]])
  mask = jnp.array([[False, True, True], [False, True, False]])
  if kind == 'credit':
    return made.credit(x[0, 1:2], x[0, 1:3], jnp.ones(1, bool))
  if kind == 'correction':
    return made.correction(x, x - 0.5, mask)
  if kind == 'pairs':
    return made.pairs(x[0], jnp.ones(3, bool)).astype(jnp.float32)
  if kind == 'estimator' and made.critic is not None:
    return made.critic.gae(x[0], x[1], mask[0])
  if kind == 'estimator':
    takes = inspect.signature(made.estimate).parameters
    greedy = {'greedy': jnp.array(1.0)} if 'greedy' in takes else {}
    groups = [0.0, 1.0, 1.0, 0.0], [1.0] * 4
    valid = jnp.ones(4, bool)
    return [made.estimate(jnp.array(g), valid, **greedy) for g in groups]

  def loss(logp):
    if kind == 'preference':
      rows = logp.sum(-1)
      return made.preference(rows[:1], rows[1:], x[0, 1:2], x[1, 1:2])[0]
    if kind == 'reward_loss':
      return made.reward_loss(*logp.sum(-1)[:, None])[0]
    per_token, _ = made.surrogate(logp, x - 0.1, x + 1.5, mask)
    return ratio.divide(made.aggregate(per_token, mask))

  return jax.value_and_grad(loss)(x)


def toy():
  """A TFDS builder of two rows."""
  sizes = types.SimpleNamespace(num_examples=1)
  info = types.SimpleNamespace(
    splits={'train': sizes, 'test': sizes},
    features={'question': None, 'answer': None},
  )
  source = lambda split: [{'question': split.encode(), 'answer': b'1'}]
  return types.SimpleNamespace(info=info, as_data_source=source, data_dir='')


@pytest.mark.parametrize(('kind', 'name', 'option'), OPTIONS)
def test_a_bad_option_is_refused_at_start_by_its_name(
  kind, name, option, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for file, row in (
    ('rows', {'answer': 1, 'completion': 'a'}),
    ('pairs', {'chosen': 'a', 'rejected': 'b'}),
  ):
    asked = (
      {'question': str(i), 'prompt': str(i), 'label': i % 2 > 0}
      for i in range(30)
    )
    pathlib.Path(f'{file}.jsonl').write_text(
      ''.join(json.dumps(row | x) + '\n' for x in asked)
    )
  pathlib.Path('hub').mkdir()
  for split in ('train', 'test'):
    row = {'question': split, 'answer': 1}
    pathlib.Path(f'hub/{split}.jsonl').write_text(json.dumps(row))
  monkeypatch.setattr(tfds, '_builder', lambda name, data_dir: toy())
  for value in BAD:
    spec = spec_of(kind, name, option, value)
    try:
      start(kind, spec)
    except ValueError as e:
      text = str(e)
      shown = value.strip("'")[:20]
      assert option in text or 'Bad spec' in text or shown in text, spec[:200]
      assert len(text) < 3000, spec[:200]

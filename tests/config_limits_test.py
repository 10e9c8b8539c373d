"""The rules of config keys: every key has one, and bad values name theirs."""

import math
import pathlib
import runpy

import jax
import ml_collections
import pytest

from rlvr_jax import checks, config, config_limits
from rlvr_jax.models import memory, sharding

ROOT = pathlib.Path(__file__).parents[1]
BASE = runpy.run_path(str(ROOT / 'configs' / 'common.py'))['base']
FLAT = config.flatten(BASE())
NUMBERS = sorted(k for k, v in FLAT.items() if type(v) in (int, float))
# Values that no numeric key accepts.
NEVER = (
  math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 10**40, -(10**40),
  10**5000, True, None, '1', '', (), (1,), {}, b'1', 1j, 'x' * 10_000,
)  # fmt: skip


def test_every_key_has_a_rule_and_every_rule_a_key():
  assert set(config_limits.RULES) == set(FLAT)
  assert len(NUMBERS) > 45


def test_every_config_keeps_the_rules():
  for path in sorted((ROOT / 'configs').rglob('*.py')):
    if path.name != 'common.py':
      checks.check_values(config.load(str(path)))


@pytest.mark.parametrize('key', NUMBERS)
def test_values_that_no_number_accepts(key):
  for bad in NEVER:
    with pytest.raises(ValueError, match=rf'{key}=') as info:
      config_limits.check(FLAT | {key: bad})
    assert len(str(info.value)) < 600


@pytest.mark.parametrize('key', sorted(set(FLAT) - set(NUMBERS)))
def test_values_that_no_word_flag_or_tuple_accepts(key):
  for bad in (None, 3, 0.5, math.nan, b'x', {}, 'x' * 200_000, '\0', '\ud800'):
    with pytest.raises(ValueError, match=rf'{key}=') as info:
      config_limits.check(FLAT | {key: bad})
    assert len(str(info.value)) < 700


@pytest.mark.parametrize(
  ('key', 'good', 'bad'),
  [
    ('seed', (0, 2**32 - 1), (-1, 2**32, 10**23, 1.0)),
    ('total_steps', (1,), (0, 10**30)),
    ('temperature', (0.01, 1, 2.0), (0, 0.0, -1.0, 1e-3, 101.0)),
    ('eval.temperature', (0, 0.0, 0.6), (-0.1, 1e-9)),
    ('eval.top_p', (1, 0.5), (0, 0.0, 1.5, -0.1)),
    ('eval.top_k', (0, 50), (-1,)),
    ('algo.beta', (0, 0.1), (-0.1,)),
    ('algo.entropy_coef', (-0.01, 0, 0.01), ()),
    ('optimizer.learning_rate', (0, 1e-6, 1), (-1e-6, 1e31)),
    ('optimizer.b1', (0, 0.9), (1, 1.0, -0.1)),
    ('optimizer.b2', (0.999,), (1.0, 1.5)),
    ('optimizer.eps', (1e-8,), (0, 0.0, -1e-8)),
    ('optimizer.max_grad_norm', (0, 1.0), (-1.0,)),
    ('max_logp_diff', (0, 0.01), (-0.01,)),
    ('verify_timeout_s', (3,), (0, -1.0)),
    ('mesh.shape', ((1, -1, 1), (8, 1, 1)), ((0, 1, 1), (1, 1), (1, 1, 1.0))),
    ('reward_weights', ((1.0,), (0, -2)), ((), (math.nan,), ('1',), 1.0)),
    ('reward_funcs', (('a', 'b'),), ('a', (), ('',), (1,))),
    ('optimizer.trainable', ('.*', 'a|b'), ('(', '*', '[')),
    ('method', ('rl', 'sft'), ('RL', '')),
    ('model.remat', (True, False), (0, 1, 'true')),
    ('model.attention', ('', 'dense', 'splash'), ('flash', None)),
    ('parts_per_group', (1, 8), (0, 1.0)),
  ],
)  # fmt: skip
def test_ends_of_the_rules(key, good, bad):
  for value in good:
    config_limits.check(FLAT | {key: value})
  for value in bad:
    with pytest.raises(ValueError, match=rf'{key}='):
      config_limits.check(FLAT | {key: value})


def test_all_errors_are_reported_at_once():
  with pytest.raises(ValueError, match=r'seed=-1 .*; algo\.beta=nan'):
    config_limits.check(FLAT | {'seed': -1, 'algo.beta': math.nan})


def test_missing_and_unknown_keys():
  c = BASE()
  c.totl_steps = 5
  with pytest.raises(ValueError, match=r"'totl_steps'.*Did you mean 'total_s"):
    checks.check_values(c)
  with pytest.raises(ValueError, match=r'method.* and more missing'):
    checks.check_values(ml_collections.ConfigDict({'seed': 0}))


def test_overrides_are_held_to_the_rules():
  path = f'{ROOT}/configs/tiny.py:smoke'
  for override in (
    'max_logp_diff=nan',
    'optimizer.eps=0',
    'eval.temperature=inf',
    'mesh.shape=(0, 1, 1)',
    'total_steps=1' + '0' * 30,
    'total_steps=١',  # an Arabic-Indic digit
  ):
    with pytest.raises(ValueError, match=override.partition('=')[0]):
      config.load(path, [override])


def test_more_memory_than_there_is():
  c = config.load(f'{ROOT}/configs/tiny.py:smoke')
  from rlvr_jax.io import load

  small = load.load_config('tiny')
  memory.check(c, small)
  with pytest.raises(ValueError, match=r'needs more memory.*weights'):
    memory.check(c, load.load_config('tiny(width=65536, layers=1000)'))
  with c.unlocked():
    c.num_generations, c.train_batch_size = 10**6, 10**6
  with pytest.raises(ValueError, match='cache of 1000000000000 rows'):
    memory.check(c, small)


def test_updates_are_counted_in_32_bits():
  c = BASE()
  c.total_steps, c.num_iterations = 10**9, 10
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  with pytest.raises(ValueError, match=r'total_steps=1000000000 .*2\*\*31'):
    checks.check_config(c, mesh)

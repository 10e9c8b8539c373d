"""Scores of reward models: by a plain forward pass; rows they cannot read."""

import math

import jax
import numpy as np
import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import enums, registry
from rlvr_jax.io import tokenizer
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sharding, transformer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import reward_scores
from rlvr_jax.tasks import Task

CONFIG = registry.get('model', 'tiny(layers=1, width=32, max_position=96)')()
MODEL = transformer.Decoder(CONFIG, value_head=True)
BYTES = tokenizer.byte_level()
TASKS = [
  Task(str(i), q, '', 'pair', {}) for i, q in enumerate(('2+2?', 'a' * 20))
]
# (text, whether it ended): ragged, empty, cut, with a mark for no text.
TEXTS = [('4', True), ('five, I think', True), ('', True), ('�x', False)]


def frozen(mesh, scale=0.2, **fields):
  shapes, _ = sharding.params_shardings(MODEL, mesh)
  rng = np.random.default_rng(0)
  make = lambda x: scale * rng.normal(size=x.shape).astype(np.float32)
  params = sharding.put_params(jax.tree.map(make, shapes), MODEL, mesh)
  return FrozenModel(MODEL, BYTES, params, **fields)


def scores(shape, tasks=TASKS, texts=TEXTS, model=None, groups=None, **fields):
  mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
  with sharding.use(mesh):
    return reward_scores.scores(
      model or frozen(mesh, **fields),
      tasks,
      texts,
      mesh=mesh,
      groups=groups or sharding.batch_shards(mesh),
    )


def by_hand(system=''):
  """One row at a time, its prompt in the chat template."""
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  params = jax.device_get(frozen(mesh).params)
  out = []
  for i, (text, ended) in enumerate(TEXTS):
    prompt = BYTES.encode_chat(TASKS[i // 2].question, system)
    row = [*prompt, *text.encode(), *BYTES.end_ids[:ended]]
    (hidden,) = MODEL.apply({'params': params}, np.array([row], np.int32))
    last = np.asarray(hidden)[0, -1]
    out.append(last @ params['value_kernel'] + params['value_bias'])
  return np.array(out)


def test_a_score_is_the_heads_after_the_last_token():
  want = by_hand()
  assert np.ptp(want) > 0.1
  np.testing.assert_allclose(scores((1, 1, 1)), want, rtol=1e-4, atol=1e-5)
  # Groups that fill a micro-batch change nothing, nor does another order.
  more = scores((1, 1, 1), TASKS[::-1], [*TEXTS[2:], *TEXTS[:2]], groups=3)
  np.testing.assert_allclose(more[[2, 3, 0, 1]], want, rtol=1e-4, atol=1e-5)


def test_one_device_and_four_give_the_same_scores():
  one = scores((1, 1, 1))
  np.testing.assert_allclose(scores((2, 2, 1)), one, rtol=1e-5, atol=2e-5)


def test_prompts_begin_with_the_system_prompt_it_was_trained_with():
  got = scores((1, 1, 1), system_prompt='Be fair.')
  np.testing.assert_allclose(got, by_hand('Be fair.'), rtol=1e-4, atol=1e-5)


def transcript(text):
  return base.Transcript(text, 1, enums.Stop.END, enums.Verdict.WRONG)


@pytest.fixture(scope='module')
def graded():
  """Rows graded by a model, and by one whose weights are NaN."""
  c = config_lib.load('configs/tiny.py:smoke')
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  texts = ['4', 'x' * 90, 'five', '6']  # the second is longer than the model
  specs = ("reward_model('good')", 'length_penalty(per_token=0.5)')
  out = {}
  for name, model in (
    ('good', frozen(mesh)),
    ('nan', frozen(mesh, scale=np.nan)),
  ):
    with sharding.use(mesh):
      attach = reward_scores.attach(c, {'good': model}, mesh)
      rows = attach(TASKS, [transcript(t) for t in texts])
    reward = base.build(specs, (1.0, 1.0))
    out[name] = rows, reward([t for t in TASKS for _ in '01'], rows)
  return out


def test_a_score_is_a_reward_beside_others(graded):
  rows, results = graded['good']
  for i in (0, 2, 3):
    score = rows[i].model_scores['good']
    assert results[i].parts["reward_model('good')"] == score
    assert results[i].value == pytest.approx(score - 0.5)


def test_rows_that_it_cannot_read_are_refused(graded):
  assert [r.refused for r in graded['good'][1]] == [False, True, False, False]
  assert math.isnan(graded['good'][0][1].model_scores['good'])


def test_rows_of_a_model_that_gives_nan_are_refused(graded):
  assert all(r.refused and r.value == 0 for r in graded['nan'][1])


def test_all_models_of_specs_are_found_nested_too():
  specs = (
    "reward_model('a')", 'outcome',
    "inverse(reward_model(name='b'))",
    "permuted(reward_model('a'), seed=1)",
  )  # fmt: skip
  assert base.reward_models(specs) == ['a', 'b']
  with pytest.raises(ValueError, match=r'no score by .a.'):
    base.build(specs[:1], (1.0,))([TASKS[0]], [transcript('x')])


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    (['method=reward_model'], "needs one, such as 'bradley_terry'"),
    (['algo.reward_loss=bce'], "any other method ''"),
    (['method=reward_model', 'algo.reward_loss=bradley_terry',
      'num_generations=1'], 'set it to 2, the rows of a pair$'),
    (['method=reward_model', 'algo.reward_loss=bce', 'num_generations=3'],
     'or to 1, a row with a label'),
    (['method=reward_model', 'algo.reward_loss=bce', 'num_generations=2',
      'max_resample_batches=1'], 'is for sampled groups'),
    (['method=sft', 'num_generations=1',
      'reward_funcs=("reward_model(\'x\')",)'], "asked by method='rl' alone"),
  ],
)  # fmt: skip
def test_configs_that_cannot_work_say_why(changes, says):
  c = config_lib.load('configs/tiny.py:smoke', changes)
  with pytest.raises(ValueError, match=says):
    raise ValueError('; '.join(reward_scores.broken_rules(c)))

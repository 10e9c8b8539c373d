"""The loss of a reward model: against TRL, and however a batch is cut."""

import functools
import importlib.util
import pathlib
import sys
import types as namespaces

import jax
import numpy as np
import pytest

from configs import common
from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.io import safetensors, weight_names
from rlvr_jax.learner import batches, gradients, optimizer
from rlvr_jax.models import micro_batch, transformer
from rlvr_jax.ops import ratio

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / 'tests' / 'goldens'
S, N = 8, 8  # columns of prompts and of completions


def load_script(name):
  path = ROOT / 'scripts' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # the second script imports the first
  spec.loader.exec_module(module)
  return module


PREFERENCES = load_script('make_golden_preferences')
SCRIPT = load_script('make_golden_rewards')
PAIRS = PREFERENCES.pairs()
P = len(PAIRS)


@functools.cache
def model():
  folder = GOLDENS / PREFERENCES.POLICY
  config = safetensors.read_config(folder)
  head = {'value_kernel': SCRIPT.head(), 'value_bias': np.float32(0)}
  params = {**safetensors.read_params(folder, config), **head}
  return transformer.Decoder(config, value_head=True), params


def algorithm(spec):
  section = common.base().algo
  section.update(reward_loss=spec, surrogate='clip')
  return algorithms.supervised(algorithms.from_config(section))


def batch(with_margins=True, s=S, n=N):
  """The pairs as `collector` makes them."""
  tokens = np.zeros((P, 2, s + n), np.int32)
  turn = np.full(tokens.shape, -1, np.int32)
  for p, (prompt, *sides) in enumerate(PAIRS):
    for g, side in enumerate(sides):
      row = [*prompt, *side]
      tokens[p, g, : len(row)] = row
      turn[p, g, len(prompt) : len(row)] = 0
  ones = np.ones((P, 2), np.int32)
  margin = np.repeat(np.float32(SCRIPT.margins())[:, None], 2, 1)
  rollout = types.Rollout(
    tokens, (tokens > 0).sum(-1), turn, 0.0 * turn.astype(np.float32), ones
  )
  score = types.Score(
    reward=np.float32([[[1], [-1]]] * P),
    turns=ones[..., None] > 0,
    belief=None,
    verdict=ones,
    margin=margin * with_margins,
  )
  c = namespaces.SimpleNamespace(method='reward_model')
  return batches.make_batch(c, None, rollout, score)


@functools.cache
def program(spec, size=1, pack=False, s=S):
  return jax.jit(
    functools.partial(
      gradients.gradients,
      algorithm=algorithm(spec),
      model=model()[0],
      temperature=1.0,
      trainable='.*',
      shapes=micro_batch.Shapes(2, s, size, 64, pack),
    )
  )


def run(spec, rows=None, **options):
  """(loss, metrics, {leaf: gradient})."""
  rows = batch() if rows is None else rows
  loss, metrics, grads = program(spec, **options)(model()[1], rows)
  metrics = {k: float(ratio.divide(r)) for k, r in metrics.items()}
  return float(loss), metrics, jax.device_get(grads)


def check_equal(got, want):
  """The same up to the order of sums over the batch."""
  assert got[0] == pytest.approx(want[0], rel=1e-5, abs=1e-6)
  assert got[1] == pytest.approx(want[1], rel=1e-5, abs=1e-5)
  for k, b in want[2].items():
    np.testing.assert_allclose(
      got[2][k], b, atol=1e-5 * max(np.abs(b).max(), 0.1), err_msg=k
    )


@pytest.mark.parametrize('name', SCRIPT.LOSSES)
def test_loss_metrics_and_size_of_the_gradient_are_those_of_trl(name):
  golden = np.load(GOLDENS / 'rewards.npz')
  spec, _, with_margins = SCRIPT.LOSSES[name]
  loss, metrics, grads = run(spec, batch(with_margins))
  # TRL's head has no bias, which has a gradient where scores are centred.
  grads = {k: g for k, g in grads.items() if k != 'value_bias'}
  of = lambda key: float(golden[f'{name}/{key}'])
  assert loss == pytest.approx(of('loss'), rel=1e-4)
  assert PREFERENCES.norm(grads) == pytest.approx(of('norm'), rel=1e-4)
  assert metrics['rewards/accuracies'] == pytest.approx(of('accuracy'))
  assert metrics['rewards/margins'] == pytest.approx(of('margin'), rel=1e-4)
  mean = (metrics['rewards/chosen'] + metrics['rewards/rejected']) / 2
  assert mean == pytest.approx(of('mean_reward'), rel=1e-4)


def test_the_gradient_is_that_of_trl():
  golden = np.load(GOLDENS / 'rewards.npz')
  tree = weight_names.assemble(
    model()[0].config,
    lambda leaf, i: golden[f'gradient/{leaf.hf.format(i)}'],
    dtype='float32',
    place=weight_names.keep,
  )
  want = optimizer.split(tree, '.*')[0]
  want['value_kernel'] = golden['gradient/score.weight'][0]
  _, _, got = run(SCRIPT.LOSSES['center'][0])
  assert got.keys() - want.keys() == {'value_bias'}
  for k, b in want.items():
    assert np.abs(b).max() > 1e-4
    np.testing.assert_allclose(got[k], b, rtol=1e-3, atol=1e-4, err_msg=k)


def test_micro_batches_packing_and_padding_change_nothing():
  spec, wide = SCRIPT.LOSSES['center'][0], batch(s=S + 3, n=N + 2)
  check_equal(run(spec, wide, size=3, pack=True, s=S + 3), run(spec))


def test_the_score_is_read_after_the_last_token():
  """By a plain forward pass; also of a row that fills all columns."""
  rows, (decoder, params) = batch(s=5, n=8), model()
  longest = max(len(a) + max(len(b), len(c)) for a, b, c in PAIRS)
  assert rows.tokens.shape == (2 * P, 14)
  assert longest <= 13
  value = jax.jit(
    functools.partial(
      micro_batch.values,
      model=decoder,
      shapes=micro_batch.Shapes(2, 5, 2, 64, True),
    )
  )(params, rows)
  got = np.where(rows.adv != 0, value, 0).sum(-1)
  (hidden,) = decoder.apply({'params': params}, rows.tokens)
  for i, (prompt, *sides) in enumerate(PAIRS):
    for g, side in enumerate(sides):
      last = len(prompt) + len(side) - 1
      assert rows.tokens[2 * i + g, last] == PREFERENCES.END
      want = np.asarray(hidden)[2 * i + g, last] @ SCRIPT.head()
      assert got[2 * i + g] == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_rows_of_equal_text_and_padding_groups():
  """Equal sides have equal scores and no gradient; padding is not counted."""
  rows = batch(with_margins=False)
  same = jax.tree.map(np.copy, rows)
  same.tokens[1::2] = same.tokens[::2]
  same.mask[1::2] = same.mask[::2]
  same.adv[1::2] = -same.adv[::2]
  loss, metrics, grads = run('bradley_terry', same)
  assert loss == pytest.approx(np.log(2), rel=1e-6)
  # Equal rows at other places of a batch: some CPUs round them otherwise.
  assert metrics['rewards/margins'] == pytest.approx(0, abs=1e-6)
  assert max(np.abs(g).max() for g in grads.values()) < 1e-5
  mask = np.where(np.arange(2 * P)[:, None] < 2, False, rows.mask)
  cut = run('bradley_terry', rows.replace(mask=mask))
  one = jax.tree.map(lambda x: np.concatenate([x[2:], x[2:4]]), rows)
  keep = np.arange(2 * P)[:, None] < 2 * P - 2
  check_equal(cut, run('bradley_terry', one.replace(mask=one.mask & keep)))

"""The loss of pairs: against TRL, and however a batch is cut and placed."""

import functools
import importlib.util
import pathlib
import types as namespaces

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.io import safetensors, weight_names
from rlvr_jax.learner import batches, gradients, optimizer
from rlvr_jax.learner import loss as losses
from rlvr_jax.models import micro_batch, sharding, transformer
from rlvr_jax.ops import ratio

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / 'tests' / 'goldens'
S, N = 8, 8  # columns of prompts and of completions


def load_script():
  path = ROOT / 'scripts' / 'make_golden_preferences.py'
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


SCRIPT = load_script()
PAIRS = SCRIPT.pairs()
P = len(PAIRS)
SPECS = {name: spec for name, (spec, _) in SCRIPT.LOSSES.items()}
SPECS['simpo'] = SCRIPT.SIMPO


@functools.cache
def model(name):
  config = safetensors.read_config(GOLDENS / name)
  params = safetensors.read_params(GOLDENS / name, config)
  return transformer.Decoder(config), params


def algorithm(spec):
  return algorithms.supervised(
    algorithms.from_config(
      namespaces.SimpleNamespace(
        credit='outcome', estimate='grpo', surrogate='clip', kl='', beta=0.0,
        aggregate='token_mean', entropy_coef=0.0, correction='', whiten=True,
        value_coef=0.1, value_clip=0.2, turn_statistics='living',
        preference=spec, distill='',
      )
    )
  )  # fmt: skip


def shapes(size=1, pack=False, s=S):
  return micro_batch.Shapes(2, s, size, 64, pack)


@functools.cache
def batch():
  """The pairs as rollouts make them, with log-probs of the reference."""
  tokens = np.zeros((P, 2, S + N), np.int32)
  turn = np.full(tokens.shape, -1, np.int32)
  for p, (prompt, *sides) in enumerate(PAIRS):
    for g, side in enumerate(sides):
      row = [*prompt, *side]
      tokens[p, g, : len(row)] = row
      turn[p, g, len(prompt) : len(row)] = 0
  ones = np.ones((P, 2), np.int32)
  rollout = types.Rollout(
    tokens, (tokens > 0).sum(-1), turn, 0.0 * turn.astype(np.float32), ones
  )
  score = types.Score(
    np.zeros((P, 2, 1), np.float32), ones[..., None] > 0, None, ones
  )
  c = namespaces.SimpleNamespace(
    method='preference', mask_truncated_completions=False
  )
  made = batches.make_batch(c, algorithm('dpo'), rollout, score)
  decoder, params = model(SCRIPT.REFERENCE)
  forward = functools.partial(
    micro_batch.forward, model=decoder, temperature=1.0, shapes=shapes(2)
  )
  return made.replace(
    logp_ref=np.asarray(jax.jit(forward)(params, made).logp),
  )


@functools.cache
def program(spec, size=1, pack=False, s=S):
  return jax.jit(
    functools.partial(
      gradients.gradients,
      algorithm=algorithm(spec),
      model=model(SCRIPT.POLICY)[0],
      temperature=1.0,
      trainable='.*',
      shapes=shapes(size, pack, s),
    )
  )


def run(spec, rows=None, **options):
  """(loss, metrics, {leaf: gradient}) of the policy."""
  params = model(SCRIPT.POLICY)[1]
  loss, metrics, grads = program(spec, **options)(params, rows or batch())
  metrics = {k: float(ratio.divide(r)) for k, r in metrics.items()}
  return float(loss), metrics, jax.device_get(grads)


def check_equal(got, want):
  """The same up to the order of sums over the batch."""
  assert got[0] == pytest.approx(want[0], rel=1e-5, abs=1e-6)
  assert got[1] == pytest.approx(want[1], rel=1e-5, abs=1e-5)
  assert got[2].keys() == want[2].keys()
  for k, b in want[2].items():
    np.testing.assert_allclose(
      got[2][k], b, atol=1e-5 * max(np.abs(b).max(), 0.1), err_msg=k
    )


# --- TRL ------------------------------------------------------------------


@pytest.mark.parametrize('name', SPECS)
def test_loss_metrics_and_size_of_the_gradient_are_those_of_trl(name):
  golden = np.load(GOLDENS / 'preferences.npz')
  loss, metrics, grads = run(SPECS[name])
  assert loss == pytest.approx(float(golden[f'{name}/loss']), rel=1e-4)
  assert SCRIPT.norm(grads) == pytest.approx(
    float(golden[f'{name}/norm']), rel=1e-4
  )
  known = [k for k in metrics if k.startswith(('rewards/', 'logps/'))]
  assert len(known) == 6
  if name != 'simpo':
    for k in known:
      want = float(golden[f'{name}/{k}'])
      assert metrics[k] == pytest.approx(want, rel=1e-4, abs=1e-5), k


def test_the_gradient_of_dpo_is_that_of_trl():
  golden = np.load(GOLDENS / 'preferences.npz')
  tree = weight_names.assemble(
    model(SCRIPT.POLICY)[0].config,
    lambda leaf, i: golden[f'gradient/{leaf.hf.format(i)}'],
    dtype='float32',
    place=weight_names.keep,
  )
  want = optimizer.split(tree, '.*')[0]
  _, _, got = run(SPECS['dpo'])
  assert got.keys() == want.keys()
  for k, b in want.items():
    assert np.abs(b).max() > 1e-4
    np.testing.assert_allclose(got[k], b, rtol=1e-3, atol=1e-5, err_msg=k)


# --- one objective, however it is computed --------------------------------


@pytest.mark.parametrize(
  ('spec', 'size', 'pack'),
  [
    (SPECS['dpo'], 6, False),
    (SPECS['dpo'], 2, True),
    (SPECS['simpo'], 3, False),
  ],
)
def test_micro_batches_and_packing_change_nothing(spec, size, pack):
  check_equal(run(spec, size=size, pack=pack), run(spec))


def test_padding_changes_nothing():
  wide = jax.tree.map(lambda x: np.pad(x, ((0, 0), (0, 5))), batch())
  check_equal(run(SPECS['dpo'], wide, s=S + 3), run(SPECS['dpo']))


def test_the_order_of_pairs_and_of_rows_changes_nothing():
  """Which row is chosen stands in its weight, not in its place."""
  at = np.arange(2 * P).reshape(P, 2)
  for order in (at[::-1].ravel(), at[:, ::-1].ravel()):
    rows = jax.tree.map(lambda x, o=order: x[o], batch())
    check_equal(run(SPECS['dpo'], rows), run(SPECS['dpo']))


def test_swapped_weights_swap_the_sides():
  rows = batch()
  swapped = run(SPECS['dpo'], rows.replace(adv=-rows.adv))[1]
  plain = run(SPECS['dpo'])[1]
  assert swapped['rewards/margins'] == pytest.approx(-plain['rewards/margins'])
  assert swapped['logps/chosen'] == pytest.approx(plain['logps/rejected'])


def test_a_pair_that_lost_a_row_leaves_the_denominator():
  """As padding groups do: the mean is over the other pairs."""
  one, rest = jax.tree.map(np.copy, batch()), batch()
  for x in (one.mask, one.adv):
    x[3] = 0  # the second row of the second pair
  kept = np.delete(np.arange(2 * P), [2, 3])
  rest = jax.tree.map(lambda x: x[kept], rest)
  got, want = run(SPECS['dpo'], one), run(SPECS['dpo'], rest)
  assert got[0] == pytest.approx(want[0], rel=1e-5)
  for k, b in want[2].items():
    np.testing.assert_allclose(got[2][k], b, atol=1e-5)
  for k in ('rewards/margins', 'logps/chosen'):
    assert got[1][k] == pytest.approx(want[1][k], rel=1e-5)


def test_no_pairs_no_loss():
  rows = batch()
  rows = rows.replace(mask=0 * rows.mask > 0)
  loss, metrics, grads = run(SPECS['dpo'], rows)
  assert loss == 0
  assert metrics['rewards/accuracies'] == 0
  assert all(not np.any(g) for g in grads.values())


def test_logps_are_sums_over_the_completion():
  decoder, params = model(SCRIPT.POLICY)
  logits = jax.jit(functools.partial(transformer.logits, model=decoder))
  logp = jax.nn.log_softmax(logits(params, jnp.asarray(batch().tokens)))
  of_token = np.take_along_axis(
    np.asarray(logp)[:, :-1], batch().tokens[:, 1:, None], -1
  )
  sums = (of_token[..., 0] * batch().mask[:, 1:]).sum(-1).reshape(P, 2)
  _, metrics, _ = run(SPECS['dpo'])
  assert metrics['logps/chosen'] == pytest.approx(sums[:, 0].mean(), rel=1e-4)
  assert metrics['logps/rejected'] == pytest.approx(sums[:, 1].mean(), rel=1e-4)


@pytest.mark.parametrize('shape', [(2, 1, 2), (3, 2, 1)])
def test_devices_change_nothing(shape):
  size = int(np.prod(shape))
  mesh = sharding.make_mesh(shape, jax.devices()[:size])
  decoder, params = model(SCRIPT.POLICY)
  parts = sharding.batch_shards(mesh)
  f = jax.jit(
    functools.partial(
      gradients.gradients,
      algorithm=algorithm('dpo'),
      model=decoder,
      temperature=1.0,
      trainable='.*',
      shapes=shapes(parts),
    )
  )
  with sharding.use(mesh):
    placed = sharding.put_params(params, decoder, mesh)
    loss, metrics, grads = f(placed, sharding.to_mesh(batch()))
  metrics = {k: float(ratio.divide(r)) for k, r in metrics.items()}
  check_equal((float(loss), metrics, jax.device_get(grads)), run(SPECS['dpo']))


def test_all_pairs_of_a_larger_group_by_hand():
  """Three groups of four: equal ranks make no pair, 2, 2, 0, -1 make five."""
  rng = np.random.default_rng(3)
  b, t = 12, 5
  logp = -rng.exponential(size=(b, t)).astype(np.float32)
  ref = -rng.exponential(size=(b, t)).astype(np.float32)
  mask = np.arange(t) < rng.integers(1, t + 1, (b, 1))
  rank = np.float32([2, 2, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0])
  adv = np.where(mask, rank[:, None], 0).astype(np.float32)
  rows = types.Batch(0 * mask, mask, adv, logp, ref)
  algo = algorithm('dpo(beta=0.7)')
  got, metrics = losses.loss(algo, jnp.asarray(logp), rows, group=4)
  h = ((logp - ref) * mask).sum(-1).astype(np.float64)
  wins = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (8, 9), (8, 10), (8, 11)]
  want = [np.log1p(np.exp(-0.7 * (h[i] - h[j]))) for i, j in wins]
  assert float(got.num) == pytest.approx(sum(want), rel=1e-5)
  assert got.den == losses.loss_denominator(algo, rows, group=4) == len(wins)
  assert float(metrics['rewards/margins'].num) == pytest.approx(
    0.7 * sum(h[i] - h[j] for i, j in wins), rel=1e-4
  )

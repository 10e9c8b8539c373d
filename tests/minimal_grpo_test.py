"""scripts/minimal_grpo.py computes what the library does with its defaults."""

import functools
import importlib.util
import pathlib

import flax.linen as nn
import flax.traverse_util as traverse
import jax
import numpy as np
import pytest

from rlvr_jax import algorithm, config, types
from rlvr_jax.learner import gradients
from rlvr_jax.models import micro_batch, token_logprobs, transformer

ROOT = pathlib.Path(__file__).parents[1]
# Programs that compile sooner, and run slower.
FAST = {
  'xla_backend_optimization_level': 0,
  'xla_cpu_use_fusion_emitters': False,
}


@pytest.fixture(scope='module')
def script():
  """The module of the script, with four groups of eight."""
  path = ROOT / 'scripts' / 'minimal_grpo.py'
  spec = importlib.util.spec_from_file_location('minimal_grpo', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  module.P, module.G = 4, 8
  return module


@pytest.fixture(scope='module')
def collected(script):
  """(parameters, batch), with rewards that random weights can earn."""
  params = nn.meta.unbox(transformer.init(script.MODEL, jax.random.key(0)))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(script, 'reward', lambda _, tokens: float(tokens[0] % 2))
    tasks = [script.TASKS['train'][i] for i in range(script.P)]
    return params, script.collect(params, tasks, jax.random.key(1))


@pytest.fixture(scope='module')
def algo():
  return algorithm.from_config(config.load(f'{ROOT}/configs/tiny.py').algo)


def test_advantages_are_those_of_the_default_algorithm(script, collected, algo):
  batch = collected[1]
  by_group = lambda x: x.reshape(script.P, script.G, *x.shape[1:])
  rollout = types.Rollout(
    tokens=by_group(batch['tokens']),
    length=None,
    turn=by_group(np.where(batch['mask'], 0, -1)),
    logp=by_group(batch['logp_old']),
    stop=None,
  )
  score = types.Score(
    reward=batch['reward'][..., None],
    turns=np.ones((script.P, script.G, 1), bool),
    belief=None,
    verdict=None,
  )
  want = algorithm.advantages(algo, rollout, score)
  np.testing.assert_array_equal(by_group(batch['adv']), want)
  assert (batch['adv'] != 0).sum() > script.G  # in several groups


def test_the_sampler_s_log_probs_are_the_loss_s(script, collected):
  params, batch = collected
  read = functools.partial(token_logprobs.token_logprobs, model=script.MODEL)
  logp, _ = jax.jit(read, compiler_options=FAST)(params, batch['tokens'])
  got = np.where(batch['mask'], logp, 0)
  np.testing.assert_allclose(got, batch['logp_old'], atol=1e-5)


def test_the_gradient_is_that_of_the_library_s_update(script, collected, algo):
  """Which visits micro-batches and computes the prompts once per group."""
  params, batch = collected
  # As if of an older policy: some tokens are clipped, the loss is not 0.
  noise = np.random.default_rng(0).normal(0, 0.3, batch['mask'].shape)
  old = np.where(batch['mask'], batch['logp_old'] + noise, 0)
  batch = batch | {'logp_old': old.astype(np.float32)}
  del batch['reward']
  grad = jax.jit(jax.value_and_grad(script.loss), compiler_options=FAST)
  value, got = grad(params, batch)
  library = functools.partial(
    gradients.gradients,
    algorithm=algo,
    model=script.MODEL,
    temperature=1.0,
    trainable='.*',
    shapes=micro_batch.Shapes(script.G, script.S, 2, 1024, pack=False),
  )
  loss, _, want = jax.jit(library, compiler_options=FAST)(
    params, types.Batch(**batch, logp_ref=None)
  )
  np.testing.assert_allclose(value, loss, rtol=1e-5)
  got = traverse.flatten_dict(got, sep='/')
  assert got.keys() == want.keys()
  for name, x in got.items():
    np.testing.assert_allclose(x, want[name], atol=1e-6, err_msg=name)
  assert max(np.abs(x).max() for x in want.values()) > 1e-3


def test_it_says_what_it_reached(script, capsys):
  before, after = script.main(['--steps=2'])
  out = capsys.readouterr().out.splitlines()
  assert [line.split(' reward ')[0] for line in out[:-1]] == [
    'step 1',
    'step 2',
  ]
  assert out[-1] == f'held-out accuracy {before:.2f} -> {after:.2f}'

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.models import transformer

FAMILIES = ('llama', 'qwen2', 'qwen3', 'olmo2')


def _model(family):
  spec = f"tiny(family='{family}', width=32, vocab=50)"
  model = transformer.Decoder(registry.get('model', spec)())
  shapes = nn.meta.unbox(
    jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
  )
  # Random biases and norms too; std 0.2, so that attention is not flat.
  rng = np.random.default_rng(2)
  params = jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, dtype=np.float32), shapes
  )
  return model, params


PROMPT = np.random.default_rng(0).integers(0, 50, (2, 6))
LENGTH = np.array([6, 3])
ROWS = np.random.default_rng(1).integers(0, 50, (4, 5))


def _apply(model, params, *args):
  return jax.jit(model.apply)({'params': params}, *args)


def _plain(model, params):
  """Each row after its own prompt, as one sequence: hidden [4,5,D]."""
  tokens = np.zeros((4, 11), int)
  for i, row in enumerate(ROWS):
    n = LENGTH[i // 2]
    tokens[i, : n + 5] = [*PROMPT[i // 2, :n], *row]
  hidden = np.asarray(_apply(model, params, jnp.asarray(tokens))[0])
  return np.stack([h[LENGTH[i // 2] :][:5] for i, h in enumerate(hidden)])


@pytest.mark.parametrize('family', ['llama', 'qwen3', 'olmo2'])
def test_rows_that_share_a_prompt_equal_the_plain_forward(family):
  model, params = _model(family)
  positions = np.repeat(LENGTH, 2)[:, None] + np.arange(5)
  rows = transformer.Continuations(
    jnp.asarray(ROWS), jnp.asarray(positions), jnp.asarray(LENGTH)
  )
  _, got = _apply(model, params, jnp.asarray(PROMPT), rows)
  np.testing.assert_allclose(got, _plain(model, params), atol=2e-5)


def test_packed_positions_equal_unpacked_ones():
  model, params = _model('llama')
  width = np.array([5, 2, 0, 4])  # tokens of each row; the rest is padding
  positions = np.repeat(LENGTH, 2)[:, None] + np.arange(5)
  rows = transformer.Continuations(*map(jnp.asarray, (ROWS, positions, LENGTH)))
  s = PROMPT.shape[1]
  prompt = np.flatnonzero(np.arange(s) < LENGTH[:, None])
  slot = np.flatnonzero(np.arange(5) < width[:, None])
  # Two spare slots are unused.
  end = PROMPT.size + ROWS.size
  slots = jnp.asarray([*prompt, *(PROMPT.size + slot), end, end])
  forward = lambda p: model.apply(
    {'params': p}, jnp.asarray(PROMPT), rows, slot=slots
  )
  (got,) = jax.jit(forward)(params)
  assert got.shape[:2] == (1, len(slots))
  want = np.asarray(_apply(model, params, jnp.asarray(PROMPT))[0])
  want = want.reshape(PROMPT.size, -1)[prompt]
  np.testing.assert_allclose(got[0, : len(prompt)], want, atol=2e-5)
  want = _plain(model, params).reshape(20, -1)[slot]
  np.testing.assert_allclose(got[0, len(prompt) : -2], want, atol=2e-5)


def test_padding_after_a_prompt_changes_nothing_before_it():
  model, params = _model('qwen3')
  (short,) = _apply(model, params, jnp.asarray(PROMPT[:, :3]))
  (long,) = _apply(model, params, jnp.asarray(PROMPT))
  np.testing.assert_allclose(long[:, :3], short, atol=1e-5)


@pytest.mark.parametrize('family', FAMILIES)
def test_num_params_counts_the_tree(family):
  model, params = _model(family)
  total = sum(x.size for x in jax.tree.leaves(params))
  assert total == model.config.num_params


def test_unstack_gives_the_layers_in_order():
  model, params = _model('llama')
  split = transformer.unstack(params, model.config.num_layers)
  for i, layer in enumerate(split['layers']):
    want = params['layers']['block']['q']['kernel'][i]
    np.testing.assert_array_equal(layer['q']['kernel'], want)

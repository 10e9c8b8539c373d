"""Adapters: the base at first, merged equal to apart, their gradient."""

import functools

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.learner import optimizer
from rlvr_jax.models import layers, lora, sharding, transformer

ADAPTERS = lora.Lora(3, 6.0, lora.PLACES['all'])
CONFIG = registry.get('model', 'tiny(family=qwen2, layers=2, width=32)')()
BASE = transformer.Decoder(CONFIG)
MODEL = transformer.Decoder(CONFIG, lora=ADAPTERS)
TOKENS = np.random.default_rng(0).integers(0, 260, (2, 7)).astype(np.int32)


@functools.cache
def mesh():
  return sharding.make_mesh((1, 1, 1), jax.devices()[:1])


@functools.cache
def base():
  return sharding.init_params(MODEL, jax.random.key(0), mesh())


@functools.cache
def fresh():
  adapters = sharding.init_adapters(MODEL, jax.random.key(1), mesh())
  return lora.join(base(), adapters)


@functools.cache
def trained():
  """With B that is not 0."""
  flat = traverse.flatten_dict(fresh(), sep='/')
  draw = np.random.default_rng(2).normal
  flat = {
    k: x + draw(0, 0.1, x.shape).astype(np.float32) * k.endswith(lora.B)
    for k, x in flat.items()
  }
  return traverse.unflatten_dict(flat, sep='/')


_logits = jax.jit(transformer.logits, static_argnames='model')


def logits(params, model=MODEL):
  return _logits(params, TOKENS, model=model)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_training_starts_at_the_base_exactly():
  want = logits(base(), BASE)
  same(logits(fresh()), want)
  same(logits(base()), want)  # without adapters the module is the base
  same(logits(lora.swap(trained(), None)), want)
  assert np.abs(logits(trained()) - want).max() > 0.01
  # Of rank 0 there is nothing to add.
  none = transformer.Decoder(CONFIG, lora=lora.Lora(0, 6.0, ADAPTERS.on))
  empty = sharding.init_adapters(none, jax.random.key(1), mesh())
  assert all(x.size == 0 for x in jax.tree.leaves(empty))
  same(logits(lora.join(base(), empty), none), want)


def test_the_base_is_that_of_a_model_without_adapters():
  same(base(), sharding.init_params(BASE, jax.random.key(0), mesh()))


def test_shapes_dtypes_and_first_values():
  model = transformer.Decoder(
    CONFIG,
    param_dtype=jnp.bfloat16,
    value_head=True,
    lora=lora.of('lora(rank=2, on="q|down")'),
  )
  params = sharding.abstract_params(model, mesh())
  flat = traverse.flatten_dict(lora.own(params), sep='/')
  at = 'layers/block/'
  assert {k: (x.shape, x.dtype.name) for k, x in flat.items()} == {
    f'{at}q/lora_a': ((2, 2, 32), 'float32'),
    f'{at}q/lora_b': ((2, 4, 8, 2), 'float32'),
    f'{at}down/lora_a': ((2, 2, 128), 'float32'),
    f'{at}down/lora_b': ((2, 32, 2), 'float32'),
    'value_kernel': ((32,), 'float32'),
    'value_bias': ((), 'float32'),
  }
  assert params['layers']['block']['q']['kernel'].dtype == jnp.bfloat16
  a = fresh()['layers']['block']['down']['lora_a']
  assert np.abs(a).max() <= 128**-0.5
  np.testing.assert_allclose(np.std(a), (3 * 128) ** -0.5, rtol=0.1)
  assert not np.any(fresh()['layers']['block']['down']['lora_b'])


def test_merged_equals_apart():
  merged = lora.merge(trained(), ADAPTERS)
  assert jax.tree.structure(merged) == jax.tree.structure(base())
  np.testing.assert_allclose(
    logits(merged, BASE), logits(trained()), atol=2e-5, rtol=2e-5
  )
  sampler = sharding.to_sampler(MODEL, mesh())
  same(sampler(trained()), sharding.to_sampler(BASE, mesh())(merged))
  # B = 0: the sampler's weights are the base's, bit for bit.
  same(sampler(fresh()), sampler(base()))


def test_a_bfloat16_base_is_merged_in_float32():
  model = transformer.Decoder(CONFIG, jnp.bfloat16, jnp.bfloat16, lora=ADAPTERS)
  cast = lambda k, x: x if lora.is_adapter(k) else x.astype(jnp.bfloat16)
  flat = traverse.flatten_dict(trained(), sep='/')
  params = {k: cast(k, x) for k, x in flat.items()}
  got = sharding.to_sampler(model, mesh())(
    traverse.unflatten_dict(params, sep='/')
  )
  at = 'layers/block/up/'
  a, b = (np.float64(params[at + part][1]) for part in (lora.A, lora.B))
  exact = np.float64(params[at + 'kernel'][1]) + 2.0 * b @ a
  merged = got['layers'][1]['up']['kernel']
  assert merged.dtype == jnp.bfloat16
  # Rounded once: at most half a step of 2^-8.
  np.testing.assert_allclose(np.float64(merged), exact, rtol=2**-8)


def test_the_gradient_is_the_chain_rule_of_the_full_one():
  """dL/dA = s B' dL/dW and dL/dB = s dL/dW A', at W + s B A."""
  weights = np.random.default_rng(3).normal(size=(2, 7, 264))
  loss = lambda params, model: (logits(params, model) * weights).sum()
  got = traverse.flatten_dict(jax.grad(loss)(trained(), MODEL))
  full = traverse.flatten_dict(
    jax.grad(loss)(lora.merge(trained(), ADAPTERS), BASE)
  )
  params = traverse.flatten_dict(trained())
  for name in ADAPTERS.on:
    at = ('layers', 'block', name)
    a, b = params[*at, lora.A], params[*at, lora.B]
    n, r = a.shape[:2]
    dw = full[*at, 'kernel'].reshape(n, b[0].size // r, a[0].size // r)
    a, b = a.reshape(n, r, -1), b.reshape(n, -1, r)
    for part, want in (
      (lora.A, 2.0 * np.einsum('nor,noi->nri', b, dw)),
      (lora.B, 2.0 * np.einsum('noi,nri->nor', dw, a)),
    ):
      np.testing.assert_allclose(
        got[*at, part].reshape(want.shape),
        want,
        rtol=1e-4,
        atol=1e-4 * np.abs(want).max(),
        err_msg=f'{name}/{part}',
      )


def test_adapters_of_full_rank_reach_any_layer():
  rng = np.random.default_rng(4)
  w, goal = rng.normal(size=(2, 6, 4)).astype(np.float32)
  x = rng.normal(size=(5, 4)).astype(np.float32)
  made = lora.Lora(4, 8.0, ('q',))
  layer = functools.partial(
    layers.Linear, (6,), ('mlp', 'embed'), jnp.float32, jnp.float32, 0.02
  )
  params = {
    'kernel': w,
    lora.A: np.eye(4, dtype=np.float32),
    lora.B: (goal - w) / 2.0,
  }
  got = layer(lora=made, name='q').apply({'params': params}, x)
  np.testing.assert_allclose(got, x @ goal.T, rtol=1e-5, atol=1e-5)


def test_only_adapters_and_a_value_head_are_trained():
  tree = trained() | {'value_kernel': np.ones(32), 'value_bias': np.ones(())}
  every, frozen = optimizer.split(tree, '.*')
  want = {f'layers/block/{n}/lora_{p}' for n in ADAPTERS.on for p in ('a', 'b')}
  assert set(every) == want | {'value_kernel', 'value_bias'}
  assert not any(map(lora.is_own, frozen))
  some, _ = optimizer.split(tree, 'block/(q|v)/')
  assert {k.split('/')[2] for k in some} == {'q', 'v'}
  with pytest.raises(ValueError, match=r'no parameter\. Parameters: layers/'):
    optimizer.split(tree, 'embedding')
  same(optimizer.join(every, frozen), tree)


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('lora(rank=0)', r"must be in 1..4096. Without adapters, model.lora is ''"),
    ('lora(alpha=0)', 'must be above 0'),
    ('lora(on=mpl)', "Did you mean 'mlp'"),
    ("lora(on='q|x')", "no projection 'x'"),
    ('dora', "model.lora='dora': Unknown lora 'dora'"),
  ],
)
def test_specs_that_are_refused(spec, said):
  with pytest.raises(ValueError, match=said):
    lora.of(spec)


def test_specs_that_are_read():
  assert lora.of('') is None
  assert lora.of('lora') == lora.Lora(16, 32.0, lora.PLACES['all'])
  both = lora.of("lora(rank=2, alpha=1, on='mlp|attention')")
  assert both == lora.Lora(2, 1.0, lora.PLACES['all'])
  assert both.scale == 0.5
  for made in (both, lora.of("lora(on='v|q')"), lora.of('lora(on=mlp)')):
    assert lora.of(lora.spec_of(made)) == made

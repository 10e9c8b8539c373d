"""The same numbers on any number of devices and any mesh."""

import functools
import types as namespaces

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from rlvr_jax import algorithm as algorithms
from rlvr_jax import registry, types
from rlvr_jax.learner import optimizer, train_step
from rlvr_jax.models import micro_batch, sampler, sharding, transformer

S, N, GROUP, P = 4, 4, 2, 16
MODEL = transformer.Decoder(
  registry.get('model', 'tiny(width=32, vocab=64, layers=1, kv_heads=4)')()
)
MESHES = (1, 1, 1), (1, 1, 4), (1, 8, 1), (2, 2, 2)


def mesh_of(shape):
  return sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])


@functools.cache
def weights():
  """Random weights of std 0.2, on the host."""
  shapes, _ = sharding.params_shardings(MODEL, mesh_of((1, 1, 1)))
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), shapes
  )


@functools.cache
def run(shape):
  """Samples and two updates on a mesh: all results, on the host."""
  mesh = mesh_of(shape)
  section = namespaces.SimpleNamespace(
    learning_rate=1e-3, schedule='constant', warmup_steps=0, b1=0.9, b2=0.95,
    eps=1e-3, weight_decay=0.1, max_grad_norm=1.0, value_learning_rate=0.0,
  )  # fmt: skip
  algo = common.base().algo
  algo.update(aggregate='seq_mean_token_mean', surrogate='clip')
  algorithm = algorithms.from_config(algo)
  tx = optimizer.make_optimizer(section, 10)
  abstract = train_step.abstract_state(MODEL, tx, '.*', mesh)
  put = lambda tree: sharding.from_host(tree, sharding.rows(mesh))
  rng = np.random.default_rng(0)
  prompt = rng.integers(1, 64, (P, S)).astype(np.int32)
  length = rng.integers(1, S + 1, P).astype(np.int32)
  with sharding.use(mesh):
    params = sharding.put_params(weights(), MODEL, mesh)
    draw = jax.jit(
      functools.partial(
        sampler.sample,
        model=MODEL,
        sampling=sampler.Sampling(N, tuple(range(8))),
        group=GROUP,
      )
    )
    layout = sharding.to_sampler(MODEL, mesh)(params)
    sampled = draw(layout, put(prompt), put(length), jax.random.key(1))
    sampled = sharding.to_host(sampled)
    start = np.repeat(length, GROUP)[:, None]
    at = np.arange(S + N)[None]
    mask = (at >= start) & (at < start + sampled.length[:, None])
    tokens, logp = (np.zeros(mask.shape, d) for d in (np.int32, np.float32))
    known = np.pad(prompt, ((0, 0), (0, N))).repeat(GROUP, 0)
    tokens[at < start] = known[at < start]
    inside = np.arange(N) < sampled.length[:, None]
    tokens[mask], logp[mask] = sampled.tokens[inside], sampled.logp[inside]
    adv = rng.standard_normal((P * GROUP, 1)).astype(np.float32)
    adv[: 9 * GROUP] = 0  # the second micro-batch is for the metrics alone
    batch = put(types.Batch(tokens, mask, adv * mask, logp, None))
    update = jax.jit(
      functools.partial(
        train_step.update,
        algorithm=algorithm,
        model=MODEL,
        tx=tx,
        schedule=lambda i: 1e-3,
        temperature=1.0,
        trainable='.*',
        shapes=(micro_batch.Shapes(GROUP, S, P // 2, 16, pack=mesh.size == 1),),
      ),
      donate_argnums=0,
      out_shardings=(train_step.shardings_of(abstract), None),
    )
    state = train_step.new_state(
      params, tx=tx, trainable='.*', abstract=abstract
    )
    told = []
    for _ in range(2):
      state, metrics = update(state, (batch,))
      told.append({k: float(v) for k, v in metrics.items()})
    assert update._cache_size() == 1
  places = jax.tree.map(lambda x: x.sharding, state)
  assert places == train_step.shardings_of(abstract)
  return sampled, told, sharding.to_host((state.params, state.opt_state))


@pytest.mark.parametrize('shape', MESHES[1:])
def test_the_mesh_changes_nothing(shape):
  sampled, told, state = run(shape)
  want_sampled, want_told, want_state = run(MESHES[0])
  np.testing.assert_array_equal(sampled.tokens, want_sampled.tokens)
  np.testing.assert_array_equal(sampled.length, want_sampled.length)
  np.testing.assert_array_equal(sampled.stop, want_sampled.stop)
  np.testing.assert_allclose(sampled.logp, want_sampled.logp, atol=1e-5)
  for a, b in zip(told, want_told):
    assert a == pytest.approx(b, rel=1e-4, abs=1e-5, nan_ok=True)
  for a, b in zip(
    jax.tree.leaves(state), jax.tree.leaves(want_state), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_there_was_something_to_compare():
  sampled, told, (params, _) = run(MESHES[0])
  assert len(set(sampled.length.tolist())) > 1
  assert told[0]['grad_norm'] > 0.01
  assert told[0]['loss'] != told[1]['loss']
  # The trainer's log-probs are the sampler's.
  assert told[0]['sampler_trainer/logp_diff_max'] < 1e-4
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, weights())
  assert min(jax.tree.leaves(moved)) > 1e-4


@functools.cache
def random(shape):
  return sharding.init_params(MODEL, jax.random.key(3), mesh_of(shape))


def test_parameters_and_moments_are_sharded_over_the_mesh():
  mesh, params = mesh_of((2, 2, 2)), random((2, 2, 2))
  part = lambda x: x.addressable_shards[0].data.shape
  block = params['layers']['block']
  # embed over fsdp, the other axis over tensor; `data` holds copies.
  assert part(params['embedding']) == (64 // 2, 32 // 2)
  assert part(block['q']['kernel']) == (1, 4 // 2, 8, 32 // 2)
  assert part(block['out']['kernel']) == (1, 32 // 2, 4 // 2, 8)
  assert part(block['down']['kernel']) == (1, 32 // 2, 128 // 2)
  assert part(params['final_norm']['scale']) == (32,)
  section = namespaces.SimpleNamespace(
    learning_rate=1.0, schedule='constant', warmup_steps=0, b1=0.9, b2=0.95,
    eps=1e-8, weight_decay=0.0, max_grad_norm=0.0, value_learning_rate=0.0,
  )  # fmt: skip
  tx = optimizer.make_optimizer(section, 1)
  abstract = train_step.abstract_state(MODEL, tx, 'q/', mesh)
  moments = [x for x in jax.tree.leaves(abstract.opt_state) if x.ndim]
  assert len(moments) == 2  # of the one trained leaf
  for x in moments:
    assert x.sharding.shard_shape(x.shape) == part(block['q']['kernel'])


def test_random_parameters_do_not_depend_on_the_mesh():
  one, many = (sharding.to_host(random(x)) for x in (MESHES[0], (2, 2, 2)))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
    np.testing.assert_array_equal(a, b)
  assert np.std(one['embedding']) == pytest.approx(0.02, rel=0.1)


def test_the_sampler_has_whole_layers_over_fsdp():
  mesh = mesh_of((1, 4, 2))
  low = MODEL.clone(dtype=jnp.bfloat16)
  params = sharding.put_params(weights(), low, mesh)
  got = sharding.to_sampler(low, mesh)(params)
  kernel = got['layers'][0]['q']['kernel']
  assert kernel.addressable_shards[0].data.shape == (4 // 2, 8, 32)
  assert got['embedding'].addressable_shards[0].data.shape == (64 // 2, 32)
  # Matrices are cast to the compute dtype, norms are not.
  assert kernel.dtype == jnp.bfloat16
  assert got['final_norm']['scale'].dtype == jnp.float32
  want = weights()['layers']['block']['q']['kernel'][0]
  np.testing.assert_array_equal(kernel, want.astype(jnp.bfloat16))


@pytest.mark.parametrize('family', ['qwen2', 'qwen3', 'olmo2'])
def test_norms_and_biases_keep_their_dtype_in_the_sampler(family):
  """In every layer, float32 beside bfloat16 matrices, bit by bit."""
  model = transformer.Decoder(
    registry.get('model', f'tiny(family={family}, width=32, vocab=64)')(),
    dtype=jnp.bfloat16,
    value_head=True,
  )
  mesh = mesh_of((1, 1, 1))
  shapes, _ = sharding.params_shardings(model, mesh)
  rng = np.random.default_rng(0)
  host = jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(np.float32), shapes
  )
  params = sharding.put_params(host, model, mesh)
  got = sharding.to_sampler(model, mesh)(params)
  kinds = set()
  for i, layer in enumerate(got['layers']):
    for path, x in jax.tree_util.tree_leaves_with_path(layer):
      name = path[-1].key
      want = host['layers']['block']
      for p in path:
        want = want[p.key]
      kinds.add(name)
      low = jnp.bfloat16 if name == 'kernel' else jnp.float32
      assert x.dtype == low, path
      np.testing.assert_array_equal(x, want[i].astype(low))
  assert kinds == {'kernel', 'scale'} | (
    {'bias'} if family == 'qwen2' else set()
  )
  assert got['embedding'].dtype == jnp.bfloat16
  for name in ('value_kernel', 'value_bias'):
    np.testing.assert_array_equal(got[name], host[name])


@pytest.mark.parametrize(
  ('shape', 'want'),
  [
    ((1, -1, 1), (1, 8, 1)),
    ((2, -1, 2), (2, 2, 2)),
    ((-1, 1, 8), (1, 1, 8)),
    ((2, 2, 2), (2, 2, 2)),
  ],
)
def test_minus_one_takes_the_remaining_devices(shape, want):
  mesh = sharding.make_mesh(shape)
  assert tuple(mesh.shape.values()) == want
  assert mesh.axis_names == ('data', 'fsdp', 'tensor')
  assert sharding.batch_shards(mesh) == want[0] * want[1]


@pytest.mark.parametrize(
  'shape',
  [(1, 1, 1), (16, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1), (8, 1), (-2, -4, 1), (16, -1, 1)],
)  # fmt: skip
def test_a_mesh_that_does_not_fit_is_refused(shape):
  with pytest.raises(ValueError) as error:
    sharding.make_mesh(shape)
  for word in (f'mesh.shape={shape}', 'number of devices, 8', "'fsdp'"):
    assert word in str(error.value)


def test_axes_that_the_mesh_does_not_divide_are_named_together():
  model = transformer.Decoder(
    registry.get('model', 'tiny(width=36, vocab=50, layers=1, heads=6)')()
  )
  with pytest.raises(ValueError) as error:
    sharding.params_shardings(model, mesh_of((1, 1, 4)))
  for name, size in (('heads', 6), ('kv_heads', 2), ('vocab', 50)):
    assert f'{name} has size {size}, no multiple of mesh axis tensor=4' in str(
      error.value
    )
  assert 'embed' not in str(error.value)


def test_weights_are_rounded_alike_on_any_mesh():
  x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
  round_ = jax.jit(optimizer.round_at_random)
  want = np.asarray(round_(jax.random.key(3), x))
  for shape in MESHES[1:]:
    there = sharding.NamedSharding(
      mesh_of(shape), sharding.PartitionSpec('fsdp', 'tensor')
    )
    got = round_(jax.random.key(3), jax.device_put(x, there))
    np.testing.assert_array_equal(np.asarray(got), want)


def test_host_arrays_survive_a_round_trip():
  mesh = mesh_of((2, 4, 1))
  x = {'a': np.arange(16).reshape(8, 2), 'b': np.arange(8.0)}
  there = sharding.from_host(x, sharding.rows(mesh))
  assert there['a'].addressable_shards[0].data.shape == (1, 2)
  back = sharding.to_host(there)
  for k in x:
    np.testing.assert_array_equal(back[k], x[k])


def test_what_is_kept_between_layers_is_cut_over_tensor():
  """Of 3 layers, 2 of 4 rows, 12 tokens, width 32 over tensor=4."""
  config = registry.get('model', 'tiny(layers=3, width=32, kv_heads=4)')()
  model = transformer.Decoder(config, remat=True)
  mesh = sharding.make_mesh((1, 2, 4))
  tokens = jax.ShapeDtypeStruct(
    (4, 12), jnp.int32, sharding=sharding.rows(mesh)
  )
  f = lambda p, t: model.apply({'params': p}, t)[0].sum()
  with sharding.use(mesh):
    params = sharding.abstract_params(model, mesh)
    text = jax.jit(jax.grad(f)).lower(params, tokens).compile().as_text()
  assert 'f32[3,2,12,8]' in text
  assert 'f32[3,2,12,32]' not in text

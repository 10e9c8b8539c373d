"""The sketch of a gradient: linear, and true to inner products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlvr_jax.ops import sketch

SHAPES = {'a': {'kernel': (30, 40), 'bias': (40,)}, 'b': (7,), 'c': ()}


def tree(seed):
  rng = np.random.default_rng(seed)
  make = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  is_shape = lambda x: isinstance(x, tuple)
  return jax.tree.map(make, SHAPES, is_leaf=is_shape)


def dot(a, b):
  products = jax.tree.map(lambda x, y: float((x * y).sum()), a, b)
  return sum(jax.tree.leaves(products))


def test_it_is_linear():
  a, b = tree(0), tree(1)
  mixed = jax.tree.map(lambda x, y: 2.0 * x - 3.0 * y, a, b)
  expected = 2.0 * sketch.sketch(a, 64) - 3.0 * sketch.sketch(b, 64)
  np.testing.assert_allclose(sketch.sketch(mixed, 64), expected, atol=2e-5)


def test_a_number_goes_to_one_bucket_with_a_sign():
  zero = jax.tree.map(jnp.zeros_like, tree(0))
  one = zero | {'b': zero['b'].at[3].set(2.5)}
  out = np.asarray(sketch.sketch(one, 64))
  assert np.count_nonzero(out) == 1
  assert abs(out.sum()) == 2.5
  assert not sketch.sketch(zero, 64).any()


@pytest.mark.parametrize('size', [256, 1000])  # any size, not a power of two
def test_inner_products_are_kept_on_average(size):
  a, b = tree(0), tree(1)
  hashes = 64
  of = lambda x: np.stack([sketch.sketch(x, size, i) for i in range(hashes)])
  of_a, of_b = of(a), of(b)
  for x, y, of_x, of_y in ((a, a, of_a, of_a), (a, b, of_a, of_b)):
    value, found = dot(x, y), (of_x * of_y).sum(-1)
    spread = np.sqrt((dot(x, x) * dot(y, y) + value**2) / size)
    assert abs(found.mean() - value) < 4 * spread / np.sqrt(hashes)
    assert 0.7 * spread < found.std() < 1.3 * spread


def test_equal_leaves_of_other_names_do_not_collide():
  x = {'p': jnp.ones(500), 'q': jnp.zeros(500)}
  y = {'p': jnp.zeros(500), 'q': jnp.ones(500)}
  product = float(sketch.sketch(x, 4096) @ sketch.sketch(y, 4096))
  assert abs(product) < 4 * 500 / np.sqrt(4096)


def test_shards_do_not_change_it():
  a = tree(0)
  mesh = Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ('x', 'y'))
  kernel = jax.device_put(
    jnp.tile(a['a']['kernel'], (2, 1))[:, :40],
    NamedSharding(mesh, PartitionSpec('x', 'y')),
  )
  whole = {'kernel': jnp.asarray(np.asarray(kernel))}
  run = jax.jit(lambda t: sketch.sketch(t, 128))
  np.testing.assert_allclose(
    run({'kernel': kernel}), run(whole), rtol=1e-5, atol=1e-5
  )

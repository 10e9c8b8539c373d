"""Attention in blocks and by the kernel, against all scores at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.models import attention, sharding


def inputs(prompts, group, columns, tokens, heads, kv_heads, channels, seed=0):
  """(q, k, v, prompt's k and v, lengths of the prompts, weights)."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.standard_normal(shape, np.float32)
  b = prompts * group
  kv = lambda rows, t: normal(rows, t, kv_heads, channels)
  return (
    (normal(b, tokens, heads, channels), kv(b, tokens), kv(b, tokens))
    + (kv(prompts, columns), kv(prompts, columns)),
    rng.integers(1, columns + 1, prompts).astype(np.int32),
    normal(b, tokens, heads, channels),
  )


def graded(kind, length, weights, **options):
  """Output, and gradients of a weighted sum of it."""

  def total(q, k, v, *prompt):
    prefix = attention.Prefix(*prompt, length) if prompt else None
    y = attention.attend(q, k, v, prefix, kind=kind, **options)
    return (weights * y).sum(), y

  def f(*args):
    return jax.grad(total, argnums=range(len(args)), has_aux=True)(*args)

  return jax.jit(f)


def compare(kind, args, length, weights, **options):
  want_grads, want = graded('dense', length, weights, **options)(*args)
  grads, got = graded(kind, length, weights, **options)(*args)
  np.testing.assert_allclose(got, want, atol=1e-5)
  for a, b in zip(grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(b).max(), 10))


@pytest.mark.parametrize(
  ('shape', 'window'),
  [((2, 2, 37, 150, 4, 2, 8), 20), ((1, 3, 70, 9, 3, 1, 8), 0)],
)
def test_blocks_equal_all_scores_at_once(shape, window, monkeypatch):
  monkeypatch.setattr(attention, 'BLOCK', 32)
  compare('blocked', *inputs(*shape), window=window)


def test_the_kernel_on_a_mesh_equals_all_scores_on_one_device(monkeypatch):
  monkeypatch.setattr(attention, 'BLOCK', 128)
  args, length, weights = inputs(2, 2, 37, 131, 4, 2, 8)
  want_grads, want = graded('dense', length, weights, window=50)(*args)
  with sharding.use(sharding.make_mesh((1, 2, 2), jax.devices()[:4])):
    grads, got = graded('splash', length, weights, window=50)(*args)
  np.testing.assert_allclose(got, want, atol=1e-5)
  for a, b in zip(grads, want_grads, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_prompts_alone(monkeypatch):
  monkeypatch.setattr(attention, 'BLOCK', 32)
  args, length, weights = inputs(3, 1, 1, 45, 2, 1, 8)
  compare('blocked', args[:3], length, weights)


@pytest.mark.parametrize('kind', ['dense', 'blocked'])
def test_a_layer_that_does_not_slide_has_no_window(kind):
  (q, k, v, *prompt), length, _ = inputs(1, 2, 9, 20, 2, 1, 8)

  @jax.jit
  def run(slides):
    prefix = attention.Prefix(*prompt, length)
    f = functools.partial(attention.attend, q, k, v, prefix, kind=kind)
    return f(window=5, sliding=slides), f(), f(window=5)

  for slides in (True, False):
    got, without, with_window = run(slides)
    np.testing.assert_array_equal(got, with_window if slides else without)
    assert np.abs(with_window - without).max() > 0.1


def test_a_window_by_hand():
  """Equal scores: each output is the mean of the values that are seen."""
  v = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
  prompt = np.array([10.0, 20.0, 99.0], np.float32).reshape(1, 3, 1, 1)
  zero = np.zeros((1, 6, 1, 2), np.float32)
  wide = lambda x: np.repeat(x, 2, -1)
  prefix = attention.Prefix(
    np.zeros((1, 3, 1, 2), np.float32), wide(prompt), np.array([2])
  )
  seen = [[10, 20, 0], [20, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
  for kind in ('dense', 'blocked'):
    run = functools.partial(attention.attend, kind=kind, window=3)
    got = jax.jit(run)(zero, zero[:, :, :1], wide(v), prefix)
    want = np.mean(seen, -1)
    np.testing.assert_allclose(got[0, :, 0, 0], want, rtol=1e-6)


def test_what_is_padding_does_not_matter():
  """Columns of the prompt after its length, and tokens after a query."""
  args, length, _ = inputs(2, 2, 9, 20, 2, 1, 8)
  q, k, v, pk, pv = args
  after = np.arange(9)[None, :, None, None] >= length[:, None, None, None]
  spoilt = np.where(after, 1e4, pk), np.where(after, 1e4, pv)
  late = lambda x: np.where(np.arange(20)[None, :, None, None] < 15, x, -1e4)
  f = jax.jit(
    lambda q, k, v, pk, pv: attention.attend(
      q, k, v, attention.Prefix(pk, pv, length), kind='blocked'
    )
  )
  got, want = f(q, late(k), late(v), *spoilt), f(*args)
  np.testing.assert_array_equal(got[:, :15], want[:, :15])


def test_the_kind_follows_the_platform_and_the_length():
  assert attention.chosen('', attention.DENSE_COLUMNS) == 'dense'
  assert attention.chosen('', attention.DENSE_COLUMNS + 1) == 'blocked'
  assert attention.chosen('splash', 8) == 'splash'
  assert 'interpreted' in attention.warning('splash')
  assert not attention.warning('') + attention.warning('blocked')
  x = jnp.zeros((1, 2, 1, 2))
  with pytest.raises(ValueError, match='dense, blocked, splash'):
    attention.attend(x, x, x, kind='flash')


def test_memory_grows_with_the_length_and_not_its_square():
  """Temporaries of a gradient, by the compiler's own count."""

  def temporaries(kind, tokens):
    x = jax.ShapeDtypeStruct((1, tokens, 1, 8), jnp.float32)
    f = lambda q, k, v: attention.attend(q, k, v, kind=kind).sum()
    compiled = jax.jit(jax.grad(f, (0, 1, 2))).lower(x, x, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  blocked = temporaries('blocked', 4096)
  assert blocked < 2.1 * temporaries('blocked', 2048)
  assert blocked < temporaries('dense', 4096) / 8

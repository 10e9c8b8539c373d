import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.models import token_logprobs, transformer

VOCAB, S, N, GROUP, P = 50, 5, 6, 2, 4
B, T = P * GROUP, S + N
MODEL = transformer.Decoder(
  registry.get('model', f'tiny(width=32, vocab={VOCAB})')()
)


@functools.cache
def params():
  """Random weights with std 0.2, so that attention is not flat."""
  boxed = jax.eval_shape(lambda: transformer.init(MODEL, jax.random.key(0)))
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape, np.float32)),
    nn.meta.unbox(boxed),
  )


# Prompts of 5, 2, 1 and 3 tokens; sampled tokens of each row.
LENGTHS = np.array([5, 2, 1, 3])
SAMPLED = np.array([[6, 3], [1, 6], [0, 4], [0, 0]])


def batch(columns=N):
  """Tokens and mask; the padding is never 0."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, VOCAB, (B, S + N))
  mask = np.zeros((B, S + columns), bool)
  for b in range(B):
    p, g = divmod(b, GROUP)
    n = LENGTHS[p]
    tokens[b, :n] = tokens[p * GROUP, :n]
    mask[b, n : n + SAMPLED[p, g]] = True
  tokens = np.pad(tokens, ((0, 0), (0, columns - N)), constant_values=7)
  return tokens.astype(np.int32), mask


TOKENS, MASK = batch()
HOLES = MASK.copy()
HOLES[0, 7] = HOLES[1, 5] = HOLES[3, 2:5] = HOLES[5, 2] = False
WEIGHTS = np.random.default_rng(3).standard_normal((2, B, T)).astype(np.float32)


def graded(f):
  """(logp, entropy) and the gradient of a weighted sum of both."""

  def total(params, tokens, mask):
    logp, entropy = f(params, tokens, mask)[:2]
    w = jnp.pad(WEIGHTS, ((0, 0), (0, 0), (0, tokens.shape[1] - T)))
    logp, entropy = (jnp.where(mask, x, 0.0) for x in (logp, entropy))
    return (w[0] * logp + w[1] * entropy).sum(), (logp, entropy)

  return jax.jit(jax.value_and_grad(total, has_aux=True))


@functools.cache
def grouped(capacity=None, chunk=1024):
  return graded(
    functools.partial(
      token_logprobs.group_outputs,
      model=MODEL,
      temperature=0.8,
      group=GROUP,
      max_prompt=S,
      capacity=capacity,
      chunk=chunk,
    )
  )


@functools.cache
def plain():
  return graded(
    lambda params, tokens, mask: token_logprobs.token_logprobs(
      params, tokens, model=MODEL, temperature=0.8
    )
  )


def check_equal(got, want):
  (_, (logp, entropy, *_)), grads = got
  (_, (want_logp, want_entropy)), want_grads = want
  np.testing.assert_allclose(logp[:, :T], want_logp, atol=2e-5)
  np.testing.assert_allclose(entropy[:, :T], want_entropy, atol=2e-5)
  flat, want_flat = (jax.tree.leaves(g) for g in (grads, want_grads))
  for a, b in zip(flat, want_flat, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(b).max(), 1))


def test_token_logprobs_are_those_of_log_softmax():
  forward = functools.partial(transformer.logits, model=MODEL)
  forward = jax.jit(forward)
  all_logits = np.float64(forward(params(), TOKENS))
  for temperature in (1.0, 0.5):
    logp, entropy = jax.jit(
      functools.partial(
        token_logprobs.token_logprobs,
        model=MODEL,
        temperature=temperature,
        chunk=10,
      )
    )(params(), TOKENS)
    assert logp.shape == entropy.shape == (B, T)
    assert not np.asarray(logp[:, 0]).any()
    assert not np.asarray(entropy[:, 0]).any()
    z = (
      all_logits[:, :-1] / temperature
    )  # the logits at t-1 are of the token at t
    all_logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    want = np.take_along_axis(all_logp, TOKENS[:, 1:, None], 2)[..., 0]
    np.testing.assert_allclose(logp[:, 1:], want, atol=1e-5)
    want = -(np.exp(all_logp) * all_logp).sum(-1)
    np.testing.assert_allclose(entropy[:, 1:], want, atol=1e-5)


# 20 sampled and 11 prompt tokens: unpacked, packed exactly, with spare room, in
# several chunks.
@pytest.mark.parametrize(
  'how', [{}, {'chunk': 8}, {'capacity': 31}, {'capacity': 40, 'chunk': 8}]
)
def test_sharing_prompts_and_packing_change_nothing(how):
  assert MASK.sum() + LENGTHS.sum() == 31
  got = grouped(**how)(params(), TOKENS, MASK)
  check_equal(got, plain()(params(), TOKENS, MASK))


@pytest.mark.parametrize('how', [{}, {'capacity': 31}])
def test_masks_with_holes_and_without_a_token(how):
  """Observations between turns; reuses a compiled program."""
  for mask in (HOLES, np.zeros_like(MASK)):
    got = grouped(**how)(params(), TOKENS, mask)
    check_equal(got, plain()(params(), TOKENS, mask))
  grads = jax.tree.leaves(got[1])
  assert not any(np.asarray(g).any() for g in grads)


def test_only_the_mask_and_what_precedes_it_count():
  """Tokens after the last one in the mask change nothing, bit for bit."""
  other = TOKENS.copy()
  for b, row in enumerate(other):
    row[LENGTHS[b // GROUP] + SAMPLED[b // GROUP, b % GROUP] :] = 3
  assert (other != TOKENS).any()
  for how in ({}, {'capacity': 31}):
    a = grouped(**how)(params(), TOKENS, MASK)[0]
    b = grouped(**how)(params(), other, MASK)[0]
    np.testing.assert_array_equal(a[1], b[1])


def test_the_amount_of_padding_changes_nothing():
  wide = batch(N + 4)
  got = grouped(capacity=31)(params(), *wide)
  assert not np.asarray(got[0][1][0][:, T:]).any()
  check_equal(got, plain()(params(), TOKENS, MASK))


def test_span_is_the_least_capacity():
  span = jax.jit(token_logprobs.span, static_argnums=(1, 2))
  # Adjacent tokens after the prompt: their number.
  assert span(MASK, GROUP, S) == 31 - LENGTHS[3]
  # Holes are positions too, but not those at a row's end.
  holes = HOLES.copy()
  holes[7, 3] = True  # a row of the group without tokens
  assert span(holes, GROUP, S) == 31 + 1  # its prompt, and one
  holes[0, 10] = False
  assert span(holes, GROUP, S) == 31
  assert span(np.zeros_like(MASK), GROUP, S) == 0
  # Tokens left out at the start of all rows of a group: only as far back as
  # max_prompt allows.
  late = np.zeros((2, T), bool)
  late[0, 7], late[1, 9] = True, True
  assert span(late, 2, S) == 5 + (8 - 5) + (10 - 5)
  assert span(late, 2, 8) == 7 + (8 - 7) + (10 - 7)


@pytest.mark.parametrize('capacity', [None, 31])
def test_recomputing_layers_changes_nothing(capacity):
  remat = functools.partial(
    token_logprobs.group_outputs,
    model=MODEL.clone(remat=True),
    temperature=0.8,
    group=GROUP,
    max_prompt=S,
    capacity=capacity,
  )
  got = graded(remat)(params(), TOKENS, MASK)
  check_equal(got, plain()(params(), TOKENS, MASK))

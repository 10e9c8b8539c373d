import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.enums import Stop
from rlvr_jax.models import (
  kv_cache,
  model_config,
  sampler,
  token_logprobs,
  transformer,
)

VOCAB, S, N, GROUP = 64, 6, 7, 4
MODEL = transformer.Decoder(
  registry.get('model', f'tiny(width=32, vocab={VOCAB})')()
)
FREE = sampler.Sampling(N, ())  # nothing ends a row
GREEDY = FREE._replace(temperature=0.0)
PROMPT = np.random.default_rng(0).integers(1, VOCAB, (2, S)).astype(np.int32)
LENGTH = np.array([6, 3], np.int32)
KEY = jax.random.key(0)


@functools.cache
def params():
  """Random weights with std 0.2, so that attention is not flat."""
  boxed = jax.eval_shape(lambda: transformer.init(MODEL, jax.random.key(0)))
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape, np.float32)),
    nn.meta.unbox(boxed),
  )


@functools.cache
def layers():
  return transformer.unstack(params(), MODEL.config.num_layers)


program = jax.jit(
  sampler.sample, static_argnames=('model', 'sampling', 'group')
)


def sample(sampling, prompt=PROMPT, length=LENGTH, key=KEY, group=1):
  out = program(
    layers(), prompt, length, key, model=MODEL, sampling=sampling, group=group
  )
  return jax.tree.map(np.asarray, out)


def rows(out, group=1):
  """Prompt and samples together, right-padded: i32[B,S+N]."""
  tokens = np.zeros((len(out.tokens), S + N), np.int32)
  for b, row in enumerate(tokens):
    n = LENGTH[b // group]
    row[:n] = PROMPT[b // group, :n]
    row[n : n + out.length[b]] = out.tokens[b, : out.length[b]]
  return tokens


@functools.partial(jax.jit, static_argnames='temperature')
def trainer(tokens, temperature):
  return token_logprobs.token_logprobs(
    params(), tokens, model=MODEL, temperature=temperature
  )[0]


@pytest.fixture(scope='module')
def greedy():
  return sample(GREEDY)


##### the program #####


def test_greedy_is_the_argmax_of_the_full_forward(greedy):
  tokens = rows(greedy)
  logits = np.array(jax.jit(transformer.logits, static_argnames='model')(
    params(), tokens, model=MODEL
  ))  # fmt: skip
  for b, n in enumerate(LENGTH):
    want = logits[b, n - 1 : n - 1 + N].argmax(-1)
    np.testing.assert_array_equal(greedy.tokens[b], want)
  assert len(np.unique(greedy.tokens)) > 4  # no constant would pass
  np.testing.assert_array_equal(greedy.length, [N, N])
  np.testing.assert_array_equal(greedy.stop, [Stop.LENGTH] * 2)
  assert not greedy.logp.any()  # probability 1


def test_branches_start_by_rank_and_go_on_greedily(greedy):
  """And their log-probs are those of the trainer, at the temperature."""
  sampling = FREE._replace(branch=GROUP, temperature=0.6)
  got = sample(sampling, group=GROUP)
  tokens = rows(got, GROUP)
  logits = np.array(jax.jit(transformer.logits, static_argnames='model')(
    params(), tokens, model=MODEL
  ))  # fmt: skip
  for b in range(2 * GROUP):
    n, rank = LENGTH[b // GROUP], b % GROUP
    want = logits[b, n - 1 : n - 1 + N]
    assert got.tokens[b, 0] == np.argsort(-want[0], kind='stable')[rank]
    np.testing.assert_array_equal(got.tokens[b, 1:], want[1:].argmax(-1))
  np.testing.assert_array_equal(got.tokens[::GROUP], greedy.tokens)
  logp = np.asarray(trainer(tokens, 0.6))
  for b, row in enumerate(logp):
    n = LENGTH[b // GROUP]
    np.testing.assert_allclose(got.logp[b], row[n : n + N], rtol=1e-4)
  # One row a prompt, of any rank; the key does not matter.
  out = program(
    layers(), PROMPT, LENGTH, jax.random.key(7), model=MODEL,
    sampling=sampling, rank=jnp.array([3, 1]),
  )  # fmt: skip
  np.testing.assert_array_equal(out.tokens, got.tokens[[3, GROUP + 1]])


def test_equally_likely_first_tokens_come_by_their_ids():
  z = jnp.zeros((3, 8)).at[:, 5].set(1.0)
  sampling = sampler.Sampling(1, (), branch=3)
  token, logp = sampler.branch(z, jnp.arange(3), sampling)
  assert token.tolist() == [5, 0, 1]
  want = np.log(np.exp([1, 0, 0]) / (7 + np.e))
  np.testing.assert_allclose(logp, want, rtol=1e-6)


def test_padding_of_the_prompt_changes_nothing(greedy):
  # First the values at padding, then the amount of padding.
  other = PROMPT.copy()
  other[1, 3:] = [9, 9, 9]
  wide = np.pad(PROMPT, ((0, 0), (0, 3)), constant_values=5)
  for prompt in (other, wide):
    np.testing.assert_array_equal(sample(GREEDY, prompt).tokens, greedy.tokens)


def test_rows_stop_at_an_end_token_and_the_loop_with_the_last(
  greedy, monkeypatch
):
  """One row ends with its first token, the other some tokens later."""
  drawn = []
  draw = sampler.draw

  def counted(*args):
    jax.debug.callback(lambda: drawn.append(1))
    return draw(*args)

  monkeypatch.setattr(sampler, 'draw', counted)
  ends = (int(greedy.tokens[0, 0]), int(greedy.tokens[1, 3]))
  # Another limit, so that no other test meets the counting program.
  got = sample(GREEDY._replace(end_ids=ends, max_new_tokens=50))
  jax.effects_barrier()
  for row, free, size in zip(got.tokens, greedy.tokens, got.length):
    assert size == np.flatnonzero(np.isin(free, ends))[0] + 1  # it counts
    np.testing.assert_array_equal(row[:size], free[:size])
    assert not row[size:].any()
  assert got.length[0] == 1 < got.length[1]
  np.testing.assert_array_equal(got.stop, [Stop.END] * 2)
  assert len(drawn) == got.length[1]


@pytest.fixture(scope='module')
def grouped():
  """Samples at two temperatures that stop at 1 of 8 ids."""
  hows = {
    t: sampler.Sampling(N, tuple(range(8, 16)), temperature=t)
    for t in (1.0, 0.6)
  }
  return hows, {
    t: sample(sampling, group=GROUP) for t, sampling in hows.items()
  }


@pytest.mark.parametrize('temperature', [1.0, 0.6])
def test_log_probs_are_those_of_the_trainer(grouped, temperature):
  out = grouped[1][temperature]
  tokens = rows(out, GROUP)
  want = np.asarray(trainer(tokens, temperature))
  for b, size in enumerate(out.length):
    n = LENGTH[b // GROUP]
    np.testing.assert_allclose(
      out.logp[b, :size], want[b, n : n + size], atol=1e-4
    )
    assert not out.logp[b, size:].any()
  assert (out.logp.min(), out.logp.max() <= 0) < (-1, True)


def test_stop_reasons_are_those_of_each_row(grouped):
  seen = set()
  for out in grouped[1].values():
    for tokens, size, stop in zip(out.tokens, out.length, out.stop):
      ends = np.isin(tokens[:size], range(8, 16))
      assert not ends[:-1].any()
      assert stop == (Stop.END if ends[-1] else Stop.LENGTH)
      assert stop == Stop.END or size == N
      assert not tokens[size:].any()
      seen.add((int(stop), int(size)))
  # The samples include rows of many lengths and truncated rows.
  assert {stop for stop, _ in seen} == {Stop.END, Stop.LENGTH}
  assert len(seen) > 3


def test_a_group_equals_its_prompt_given_several_times(grouped):
  hows, out = grouped
  got = sample(hows[1.0], np.repeat(PROMPT, GROUP, 0), np.repeat(LENGTH, GROUP))
  np.testing.assert_array_equal(got.tokens, out[1.0].tokens)
  np.testing.assert_array_equal(got.length, out[1.0].length)
  np.testing.assert_allclose(got.logp, out[1.0].logp, atol=1e-5)


def test_a_row_does_not_depend_on_the_other_rows(grouped):
  hows, out = grouped
  prompt, length = PROMPT.copy(), LENGTH.copy()
  prompt[1], length[1] = 1 + np.arange(S), S
  got = sample(hows[1.0], prompt, length, group=GROUP)
  np.testing.assert_array_equal(got.tokens[:GROUP], out[1.0].tokens[:GROUP])
  np.testing.assert_allclose(got.logp[:GROUP], out[1.0].logp[:GROUP], atol=1e-6)
  assert (got.tokens[GROUP:] != out[1.0].tokens[GROUP:]).any()


def test_rows_continue_in_smaller_batches(grouped, monkeypatch):
  """The same samples, in 8 rows, then 7, then 4, each with its own prompt.

  Their cache is in blocks of 2, 2 and 3 columns, read once they are written.
  """
  monkeypatch.setattr(kv_cache, 'FIRST', 2)
  hows, outs = grouped
  want = outs[1.0]
  live = (want.length[:, None] > np.arange(N)[None]).sum(0)
  assert {8, 7, 5, 4} == {*live}
  monkeypatch.setattr(sampler, 'sizes', lambda rows, sampling: (8, 7, 4))
  got = sample(hows[1.0]._replace(compact_batch=True), group=GROUP)
  np.testing.assert_allclose(got.logp, want.logp, atol=1e-5)
  for name in ('tokens', 'length', 'stop'):
    np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


def test_sliding_layers_sample_as_they_train(monkeypatch):
  """Log-probs of a Gemma; windows cross prompt and blocks of the cache."""
  monkeypatch.setattr(kv_cache, 'FIRST', 2)
  spec = f"tiny(width=32, vocab={VOCAB}, family='gemma3_text')"
  config = dataclasses.replace(
    registry.get('model', spec)(),
    sliding=(True, False),
    window=4,
    local_rope=model_config.Rope(theta=10.0),
  )
  model = transformer.Decoder(config)
  boxed = jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
  rng = np.random.default_rng(2)
  weights = jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape, np.float32)),
    nn.meta.unbox(boxed),
  )
  out = program(
    transformer.unstack(weights, 2), PROMPT, LENGTH, KEY, model=model,
    sampling=FREE, group=2,
  )  # fmt: skip
  tokens = rows(jax.tree.map(np.asarray, out), 2)
  # A window of all columns is no window, which must give something else.
  for window, equal in ((4, True), (99, False)):
    m = transformer.Decoder(dataclasses.replace(config, window=window))
    f = functools.partial(token_logprobs.token_logprobs, model=m)
    want = np.asarray(jax.jit(f)(weights, tokens)[0])
    gap = [
      np.abs(out.logp[b] - want[b, n : n + N]).max()
      for b, n in enumerate(np.repeat(LENGTH, 2))
    ]
    assert (max(gap) < 1e-4) == equal, gap


def test_only_long_rows_on_one_device_shrink():
  long = FREE._replace(max_new_tokens=256)
  assert sampler.sizes(64, long) == (64,)
  long = long._replace(compact_batch=True)
  assert sampler.sizes(64, long) == (64, 32, 16)
  assert sampler.sizes(8, long) == (8, 4)
  assert sampler.sizes(1, long) == (1,)
  assert sampler.sizes(64, long._replace(max_new_tokens=24)) == (64,)


def test_the_key_decides_and_nothing_else(grouped):
  hows, out = grouped
  again = sample(hows[1.0], group=GROUP)
  for a, b in zip(again, out[1.0]):
    np.testing.assert_array_equal(a, b)
  other = sample(hows[1.0], group=GROUP, key=jax.random.key(1))
  assert (other.tokens != again.tokens).mean() > 0.5
  # Rows of a group differ from one another too.
  assert len({tuple(row) for row in again.tokens[:GROUP]}) == GROUP


def test_with_a_key_per_prompt_rows_do_not_depend_on_other_prompts():
  """Swapping prompts and their keys swaps their rows."""
  keys = jax.random.split(KEY, 2)
  one = sample(FREE, key=keys)
  other = sample(FREE, PROMPT[::-1].copy(), LENGTH[::-1].copy(), keys[::-1])
  np.testing.assert_array_equal(one.tokens, other.tokens[::-1])
  assert (one.tokens != sample(FREE, key=keys[::-1]).tokens).any()


def test_another_prompt_of_the_same_shape_compiles_nothing(grouped):
  hows, _ = grouped
  names = []
  listen = lambda event, _, **kw: names.append(event)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    sample(hows[1.0], PROMPT[::-1].copy(), LENGTH - 1, jax.random.key(3), GROUP)
    # An equal model and settings, rebuilt, give the same program.
    program(
      layers(), PROMPT, LENGTH, KEY, group=GROUP,
      model=transformer.Decoder(MODEL.config),
      sampling=sampler.Sampling(N, tuple(range(8, 16)), 1.0),
    )  # fmt: skip
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert '/jax/core/compile/backend_compile_duration' not in names


##### draw and truncate #####

draw = jax.jit(sampler.draw, static_argnames='sampling')


def truncated(logits, sampling):
  """Log-probs [B,V] of the tokens that are kept."""
  return np.asarray(jax.nn.log_softmax(sampler.truncate(logits, sampling)))


LAST = np.nextafter(np.float32(1), np.float32(0))  # the largest u there is


def draw_at(z, u, sampling=FREE):
  """Tokens and log-probs of one distribution z [V] at each of u."""
  u = np.asarray(u, np.float32)
  token, logp = draw(np.tile(np.float32(z), (len(u), 1)), u, sampling=sampling)
  return np.asarray(token), np.asarray(logp)


def softmax(z):
  e = np.exp(np.float64(z) - np.max(z))
  return e / e.sum()


@pytest.mark.parametrize('v', [1, 2, 3, 5, 64, 1000])
def test_draw_inverts_the_distribution_function(v):
  """The token is the first whose cumulative mass is above u."""
  z = np.random.default_rng(v).standard_normal(v) * 2
  upto = np.cumsum(softmax(z))
  u = np.random.default_rng(1).random(500, np.float32)
  u = np.concatenate([[0, LAST], u])
  token, logp = draw_at(z, u)
  want = np.minimum(np.searchsorted(upto, u, 'right'), v - 1)
  near = np.abs(upto[:, None] - u).min(0) < 1e-6  # rounding may decide
  near[1] = False
  np.testing.assert_array_equal(token[~near], want[~near])
  assert near.sum() < 20
  np.testing.assert_allclose(logp, np.log(softmax(z))[token], atol=1e-5)


def test_draw_has_the_frequencies_of_softmax():
  """u at even steps: counts are exact to one at either end of an interval."""
  n = 100_000
  z = np.random.default_rng(0).standard_normal(37) * 2
  token, _ = draw_at(z, (np.arange(n) + 0.5) / n)
  counts = np.bincount(token, minlength=37)
  np.testing.assert_allclose(counts, n * softmax(z), atol=2.1)
  # With random u the error is that of n draws: chi squared of 36 degrees of
  # freedom is below 68 in 999 of 1000 cases, and the key is fixed.
  token, _ = draw_at(z, jax.random.uniform(jax.random.key(5), (n,)))
  counts = np.bincount(token, minlength=37)
  assert ((counts - n * softmax(z)) ** 2 / (n * softmax(z))).sum() < 68


@pytest.mark.parametrize('seed', range(3))
def test_tokens_without_mass_are_never_drawn(seed):
  """At every u next to a step of the distribution function, 0 and 1 too."""
  rng = np.random.default_rng(seed)
  v = 1000
  z = np.full(v, -np.inf, np.float32)
  kept = rng.choice(v, 11, replace=False)
  z[kept] = rng.standard_normal(11) * 3
  steps = np.cumsum(softmax(z))[np.sort(kept)].astype(np.float32)
  u = [np.zeros(1), [LAST]]
  for toward in (0.0, 2.0):
    x = steps
    for _ in range(8):
      u.append(x)
      x = np.nextafter(x, np.float32(toward))
  u = np.clip(np.concatenate(u), 0, LAST)
  token, logp = draw_at(z, u)
  assert np.isin(token, kept).all()
  np.testing.assert_allclose(logp, np.log(softmax(z)[token]), atol=1e-5)
  assert (token[0], token[1]) == (kept.min(), kept.max())


@pytest.mark.parametrize('at', [0, 37, 63])
def test_all_mass_on_one_token(at):
  for rest in (-np.inf, -1e9, -200.0):
    z = np.full(64, rest)
    z[at] = 3.0
    token, logp = draw_at(z, [0, 0.3, 0.5, 0.7, LAST])
    assert (token == at).all()
    np.testing.assert_array_equal(logp, 0)


def test_sums_that_round_past_a_token_still_stop_on_one_with_mass():
  x = jnp.array([[0.0, 2.0, 0.0, 1.0, 0.0]] * 6)
  got = jax.jit(sampler._with_mass)(x, jnp.array([0, 1, 2, 3, 4, 5]))
  np.testing.assert_array_equal(got, [1, 1, 3, 3, 3, 3])


def test_temperature_divides_the_logits():
  z = np.array([0.0, 1.0, 2.0])
  for t in (0.5, 3.0):
    token, logp = draw_at(z, [0.05, 0.3, 0.95], FREE._replace(temperature=t))
    np.testing.assert_allclose(logp, np.log(softmax(z / t))[token], atol=1e-6)
  token, logp = draw_at(z, [0.0, 0.5, LAST], GREEDY)
  np.testing.assert_array_equal(token, [2, 2, 2])
  np.testing.assert_array_equal(logp, [0, 0, 0])


P = np.array([0.1, 0.4, 0.05, 0.25, 0.2])


@pytest.mark.parametrize(
  ('change', 'kept'),
  [
    ({'top_k': 1}, [1]),
    ({'top_k': 2}, [1, 3]),
    ({'top_k': 5}, [0, 1, 2, 3, 4]),
    ({'top_k': 9}, [0, 1, 2, 3, 4]),
    ({'top_p': 0.01}, [1]),
    ({'top_p': 0.39}, [1]),
    ({'top_p': 0.41}, [1, 3]),
    ({'top_p': 0.64}, [1, 3]),
    ({'top_p': 0.66}, [1, 3, 4]),
    ({'top_p': 0.96}, [0, 1, 2, 3, 4]),
    # top-k first; top-p then counts mass of what is left: 0.4 / 0.65 = 0.615.
    ({'top_k': 2, 'top_p': 0.6}, [1]),
    ({'top_k': 2, 'top_p': 0.63}, [1, 3]),
  ],
)
def test_truncation_keeps_the_known_tokens_renormalised(change, kept):
  sampling = FREE._replace(**change)
  got = truncated(jnp.log(P)[None], sampling)[0]
  want = np.full(5, -np.inf)
  want[kept] = np.log(P[kept] / P[kept].sum())
  np.testing.assert_allclose(got, want, atol=1e-6)


TEN = [0.1] * 10


@pytest.mark.parametrize(
  ('p', 'change', 'kept'),
  [
    (TEN, {'top_p': 0.35}, [0, 1, 2, 3]),
    (TEN, {'top_p': 0.4}, [0, 1, 2, 3]),
    (TEN, {'top_p': 0.05}, [0]),
    (TEN, {'top_p': 1e-9}, [0]),
    (TEN, {'top_p': 0.999}, range(10)),
    (TEN, {'top_k': 2}, [0, 1]),
    (TEN, {'top_k': 9}, range(9)),
    (TEN, {'top_k': 4, 'top_p': 0.6}, [0, 1, 2]),
    # The tie is at the cutoff: all likelier tokens are kept.
    ([0.2, 0.4, 0.2, 0.2], {'top_k': 2}, [0, 1]),
    ([0.2, 0.4, 0.2, 0.2], {'top_k': 3}, [0, 1, 2]),
    ([0.2, 0.4, 0.2, 0.2], {'top_p': 0.5}, [0, 1]),
    ([0.2, 0.4, 0.2, 0.2], {'top_p': 0.6}, [0, 1]),
    ([0.2, 0.4, 0.2, 0.2], {'top_p': 0.61}, [0, 1, 2]),
    # Above the cutoff ties are kept too.
    ([0.1, 0.3, 0.3, 0.3], {'top_k': 3}, [1, 2, 3]),
  ],
)
def test_ties_do_not_exceed_top_k_or_top_p(p, change, kept):
  """A row without ties in the same batch is not affected."""
  p = np.array(p)
  other = np.arange(1, len(p) + 1) / np.arange(1, len(p) + 1).sum()
  sampling = FREE._replace(**change)
  rows = jnp.log(jnp.array([p, other]))
  got = truncated(rows, sampling)
  want = np.full(len(p), -np.inf)
  want[list(kept)] = np.log(p[list(kept)] / p[list(kept)].sum())
  np.testing.assert_allclose(got[0], want, atol=1e-6)
  alone = truncated(rows[1:], sampling)
  np.testing.assert_allclose(got[1:], alone, atol=1e-6)
  # Tokens come from the kept set, with the log-probs reported.
  token, logp = draw_at(np.log(p), (np.arange(200) + 0.5) / 200, sampling)
  assert set(token) == set(kept)
  np.testing.assert_allclose(logp, want[token], atol=1e-6)


def test_truncation_meets_infinite_logits():
  logp = jnp.log(jnp.array([[0.5, 0.0, 0.5, 0.0]]))
  for change in ({'top_k': 3}, {'top_p': 0.9}):
    got = truncated(logp, FREE._replace(**change))
    np.testing.assert_allclose(got, logp, atol=1e-6)


@pytest.mark.parametrize('change', [{'top_k': 2}, {'top_p': 0.6}])
def test_draw_is_from_the_truncated_distribution(change):
  u = (np.arange(100) + 0.5) / 100
  token, logp = draw_at(np.log(P), u, FREE._replace(**change))
  # 0.4 : 0.25 of what is kept.
  counts = np.bincount(token, minlength=5)
  np.testing.assert_allclose(
    counts, [0, 100 * 0.4 / 0.65, 0, 100 * 0.25 / 0.65, 0], atol=1
  )
  np.testing.assert_allclose(logp, np.log(P / 0.65)[token], atol=1e-6)

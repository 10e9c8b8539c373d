"""Cached dialogues equal a full forward pass over each row."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.models import (
  dialogue_sampler,
  kv_cache,
  sampler,
  sharding,
  token_logprobs,
  transformer,
)

END = 9
HOW = sampler.Sampling(4, (END,), temperature=1.0)


MODEL = transformer.Decoder(registry.get('model', 'tiny(width=32, vocab=64)')())


@pytest.fixture(scope='module', autouse=True)
def _blocks():
  """Blocks of 8, 8, 16 and 8 columns, which inputs and turns run across."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(kv_cache, 'FIRST', 8)
    yield


@pytest.fixture(scope='module')
def policy():
  """Random weights with std 0.2, so that attention is not flat."""
  boxed = jax.eval_shape(lambda: transformer.init(MODEL, jax.random.key(0)))
  rng = np.random.default_rng(2)
  params = jax.tree.map(
    lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape, np.float32)),
    nn.meta.unbox(boxed),
  )
  return MODEL, params, transformer.unstack(params, MODEL.config.num_layers)


def converse(policy, sampling, replies, group=2, lives=None, key=1):
  """Rows of tokens and of sampler's log-probs after some scripted turns."""
  model, _, params = policy
  prompt = jnp.array([[20, 21, 22], [30, 31, 0]])
  length = jnp.array([3, 2])
  rows = [prompt[i // group, : length[i // group]].tolist() for i in range(4)]
  logp = [[0.0] * len(r) for r in rows]
  fed, heard = [[r[-1]] for r in rows], []
  memory = dialogue_sampler.prefill(
    params, prompt, length, model=model, group=group, columns=40
  )
  for k, reply in enumerate([*replies, None]):
    live = np.ones(4, bool) if lives is None else np.array(lives[k])
    live &= reply is not None
    tokens = np.zeros((4, 4), np.int32)
    for i, f in enumerate(fed):
      tokens[i, : len(f)] = f
    memory, drawn, at = dialogue_sampler.decode_turn(
      params,
      memory,
      jnp.array(tokens),
      jnp.array([len(f) for f in fed]),
      jnp.array(live),
      jax.random.fold_in(jax.random.key(key), k),
      model=model,
      sampling=sampling,
    )
    heard.append(int(at))
    fed = [[] for _ in rows]
    for i in np.flatnonzero(live):
      n = int(drawn.length[i])
      new = drawn.tokens[i, :n].tolist()
      between = reply[: 1 + i % 2]  # replies of different lengths
      rows[i] += new + between
      logp[i] += drawn.logp[i, :n].tolist() + [0.0] * len(between)
      fed[i] = [new[-1], *between]
    assert (np.asarray(drawn.length)[~live] == 0).all()
  return rows, logp, memory, heard


def pad(rows):
  out = np.zeros((len(rows), max(map(len, rows))), np.int32)
  for i, r in enumerate(rows):
    out[i, : len(r)] = r
  return jnp.array(out)


REPLIES = [[40, 41], [50, 51], [60, 61]]


def test_log_probs_are_those_of_a_full_forward_pass(policy):
  rows, logp, *_ = converse(policy, HOW, REPLIES)
  model, params, _ = policy
  full, _ = token_logprobs.token_logprobs(params, pad(rows), model=model)
  for i, own in enumerate(logp):
    at = np.flatnonzero(own)
    assert len(at) > 3
    np.testing.assert_allclose(full[i, at], np.array(own)[at], atol=1e-4)


def test_greedy_is_the_argmax_of_a_full_forward_pass(policy):
  greedy = HOW._replace(temperature=0.0)
  rows, *_ = converse(policy, greedy, REPLIES)
  model, params, _ = policy
  best = np.asarray(
    transformer.logits(params, pad(rows), model=model).argmax(-1)
  )
  replied = {x for r in REPLIES for x in r}
  for i, row in enumerate(rows):
    start = 3 if i < 2 else 2
    told = [best[i, t - 1] for t in range(start, len(row))]
    # A reply's tokens are not the policy's; no reply's token is the argmax
    # here by chance, which the first line would hide.
    own = [t for t in range(start, len(row)) if row[t] not in replied]
    assert own
    for t in own:
      assert told[t - start] == row[t]


def test_rows_that_are_not_live_do_not_affect_the_others(policy):
  """Greedy: random numbers belong to rows, so this holds sampled too."""
  rows, logp, *_ = converse(policy, HOW, REPLIES)
  lives = [[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0]]
  lives = [np.array(x, bool) for x in lives] + [np.zeros(4, bool)]
  some, some_logp, *_ = converse(policy, HOW, REPLIES, lives=lives)
  assert some[0] == rows[0]
  np.testing.assert_allclose(some_logp[0], logp[0], atol=1e-5)
  for i in (1, 3):
    assert some[i] == rows[i][: len(some[i])]
    assert len(some[i]) < len(rows[i])


def test_two_programs_for_any_number_of_turns(policy):
  converse(policy, HOW, REPLIES)
  before = (
    dialogue_sampler.decode_turn._cache_size(),
    dialogue_sampler.prefill._cache_size(),
  )
  converse(policy, HOW, REPLIES * 2, key=5)
  assert (
    dialogue_sampler.decode_turn._cache_size(),
    dialogue_sampler.prefill._cache_size(),
  ) == before


def test_the_cache_holds_every_token_but_the_last(policy):
  rows, _, memory, _ = converse(policy, HOW, REPLIES)
  np.testing.assert_array_equal(memory.count, [len(r) for r in rows])
  np.testing.assert_array_equal(
    memory.written.sum(-1) + np.repeat([2, 1], 2), memory.count
  )


@pytest.mark.parametrize('shape', [(2, 4, 1), (1, 4, 2), (1, 8, 1)])
def test_every_device_caches_its_own_rows(policy, shape):
  model, params, layers = policy
  mesh = sharding.make_mesh(shape)
  shards, tensor = shape[0] * shape[1], shape[2]
  rows = sharding.rows(mesh)
  with sharding.use(mesh):
    put = lambda x: sharding.from_host(np.asarray(x), rows)
    placed = sharding.put_params(params, model, mesh)
    placed = sharding.to_sampler(model, mesh)(placed)
    prompt, length = np.tile([20, 21, 22], (8, 1)), np.full(8, 3)
    memory = dialogue_sampler.prefill(
      placed, put(prompt), put(length), model=model, group=2, columns=40
    )
    fed, one = put(np.tile([22, 0, 0], (16, 1))), put(np.ones(16, np.int32))
    after, drawn, _ = dialogue_sampler.decode_turn(
      placed,
      jax.tree.map(jnp.copy, memory),
      fed,
      one,
      put(np.ones(16, bool)),
      jax.random.key(0),
      model=model,
      sampling=HOW,
    )
  for m in memory, after:
    for x in (*m.prefix[0], *m.cache[0][0]):
      here = x.sharding.shard_shape(x.shape)
      assert here[:2] == (x.shape[0] // shards, x.shape[1] // tensor)
    assert m.written.sharding.shard_shape(m.written.shape) == (16 // shards, 40)
  alone = dialogue_sampler.prefill(
    layers, prompt, length, model=model, group=2, columns=40
  )
  _, expected, _ = dialogue_sampler.decode_turn(
    layers, alone, np.asarray(fed), np.asarray(one), np.ones(16, bool),
    jax.random.key(0), model=model, sampling=HOW,
  )  # fmt: skip
  np.testing.assert_array_equal(drawn.tokens, expected.tokens)

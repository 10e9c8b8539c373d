"""The policy's log-probability of the truth, before and after each turn.

ΔBelief-RL (Auzina et al. 2026, arXiv 2602.12342) rewards a turn by the increase
of log p(truth). To measure it, the policy is given "Is it 'truth'?" (the probe)
as its next message after each reply, and the tokens of the truth are scored. No
gradient flows.
Letters: as in `models.dialogue_sampler`; K turns, E tokens of a probe.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import (
  dialogue_sampler,
  layers,
  sampler_layers,
  sharding,
  transformer,
)
from rlvr_jax.ops import logprob
from rlvr_jax.rollouts import episode_end
from rlvr_jax.rollouts.episode import Episode


@functools.partial(jax.jit, static_argnames=('model', 'chunk'))
def measure(
  params: Any,
  cache: dialogue_sampler.DialogueCache,
  bounds: jax.Array,
  alive: jax.Array,
  probe: jax.Array,
  in_truth: jax.Array,
  *,
  model: transformer.Decoder,
  chunk: int,
) -> jax.Array:
  """f32[B,K+1]: log p of the truth's tokens at K+1 moments, nats.

  Moment 0 is before turn 0, moment k+1 is after the reply to turn k. At each of
  them the probe is appended to every row that is alive, as if the policy had
  sampled it; the result is the sum of log p(token) over the truth's tokens, at
  temperature 1. One forward pass of all rows per moment; the cache is not
  changed.

  Args:
    params: in the sampler's layout.
    bounds: i32[B,K+1]: number of cache columns that belong to each moment.
    alive: bool[B,K+1]; the others get 0.
    probe: i32[B,E], the truth and the words around it, right-padded.
    in_truth: bool[B,E], tokens of the truth; never the first token.
    chunk: rows of logits at a time.
  """
  e, m = probe.shape[1], cache.written.shape[1]
  embedded = sampler_layers.embed_tokens(params, model, probe)

  def at(moment):
    bound, alive_now = moment

    def score():
      sees = cache.written & (jnp.arange(m)[None] < bound[:, None])
      count = cache.seen.sum((1, 2, 3)).repeat(len(probe) // len(cache.seen))
      count = count + sees.sum(-1)
      x, _ = dialogue_sampler.forward_with_cache(
        params,
        model,
        embedded,
        count[:, None] + jnp.arange(e)[None],
        cache,
        sees[:, None, None],
        layers.causal(e),
      )
      norm = layers.final_norm(model.config, model.param_dtype)
      x = norm.apply({'params': params['final_norm']}, x)
      logp, _ = logprob.from_hidden(
        x[:, :-1],
        transformer.head_weight(params),
        probe[:, 1:],
        temperature=1.0,
        chunk=chunk,
      )
      total = jnp.where(in_truth[:, 1:], logp, 0.0).sum(-1)
      return jnp.where(alive_now, total, 0.0)

    return jax.lax.cond(alive_now.any(), score, lambda: jnp.zeros(len(probe)))

  moments = (jnp.moveaxis(bounds, 1, 0), jnp.moveaxis(alive, 1, 0))
  return jax.lax.map(at, moments).T


def probes(
  episodes: Sequence[Episode], tokenizer: Tokenizer, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Token ids i32[B,E] of the probes; bool[B,E], those of the truth.

  Where no words follow the truth, the end token counts as part of it: without
  it, 'cat' could not be distinguished from 'catfish'.

  Raises:
    ValueError: more than `size` = E tokens, or none before the truth.
  """
  tokens = np.zeros((len(episodes), size), np.int32)
  in_truth = np.zeros((len(episodes), size), bool)
  for row, e in enumerate(episodes):
    before, truth, after = dialogue.elicit(e.task)
    ids, inside = tokenizer.encode_between(before, truth, after)
    if not after:
      ids, inside = [*ids, tokenizer.end_id], [*inside, True]
    last = max((i for i, x in enumerate(inside) if x), default=0)
    if not 0 < last < size or inside[0]:
      raise ValueError(
        f'Task {e.task.id!r}: {before + truth!r} has {last + 1} tokens; '
        f'it must have words before the truth, and at most {size} tokens in '
        'all: see dialogue.max_elicit_length.'
      )
    tokens[row, : last + 1] = ids[: last + 1]
    in_truth[row, : last + 1] = inside[: last + 1]
  return tokens, in_truth


def elicit(
  episodes: Sequence[Episode],
  cache: dialogue_sampler.DialogueCache,
  bounds: np.ndarray,
  scorer: FrozenModel,
  *,
  max_turns: int,
  elicit_length: int,
  chunk: int,
) -> np.ndarray:
  """f32[B,K+1]: log p(truth) before turn 0 and after each turn, nats.

  Moments after a row's last turn repeat its last value.

  Args:
    cache, bounds: from `run_episodes` with this model, or from
      `replay_into_cache`.
    scorer: the model whose belief is measured.
    elicit_length: E, most tokens of a probe.
    chunk: rows of logits at a time.
  """
  b, moments = len(episodes), max_turns + 1
  tokens, in_truth = probes(episodes, scorer.tokenizer, elicit_length)
  alive = np.array(
    [[k <= len(e.messages) for k in range(moments)] for e in episodes]
  )
  bounds = np.broadcast_to(bounds, (b, np.shape(bounds)[-1]))
  missing = moments - bounds.shape[1]
  bounds = np.pad(bounds, [(0, 0), (0, max(missing, 0))], mode='edge')
  to_mesh = sharding.to_mesh
  out = measure(
    scorer.sampler_params,
    cache,
    to_mesh(bounds[:, :moments]),
    to_mesh(alive),
    to_mesh(tokens),
    to_mesh(in_truth),
    model=scorer.model,
    chunk=chunk,
  )
  out = np.array(sharding.to_host(out))
  for row, e in enumerate(episodes):
    out[row, len(e.messages) :] = out[row, len(e.messages)]
  return out


def replay_into_cache(
  episodes: Sequence[Episode],
  scorer: FrozenModel,
  *,
  group: int,
  max_prompt_length: int,
  limits: episode_end.Limits,
) -> tuple[dialogue_sampler.DialogueCache, np.ndarray]:
  """(cache, bounds) of a model that did not sample these episodes."""
  p = len(episodes) // group
  prompt = np.zeros((p, max_prompt_length), np.int32)
  length = np.array([e.context_ends[0] for e in episodes[::group]], np.int32)
  for i, e in enumerate(episodes[::group]):
    prompt[i, : length[i]] = e.tokens[: length[i]]
  # limits.length bounds the trained tokens; the last reply may exceed it.
  inputs = np.zeros((len(episodes), limits.columns), np.int32)
  size = np.zeros(len(episodes), np.int32)
  moments = max(len(e.context_ends) for e in episodes)
  bounds = np.zeros((len(episodes), moments), np.int32)
  for row, e in enumerate(episodes):
    start = e.context_ends[0] - 1
    ids = [*e.tokens, *e.last_reply][start:]
    inputs[row, : len(ids)], size[row] = ids, len(ids)
    ends = [end - start for end in e.context_ends]
    bounds[row] = ends + ends[-1:] * (moments - len(ends))
  cache = dialogue_sampler.prefill(
    scorer.sampler_params,
    sharding.to_mesh(prompt),
    sharding.to_mesh(length),
    model=scorer.model,
    group=group,
    columns=limits.columns,
  )
  cache = dialogue_sampler.append(
    scorer.sampler_params,
    cache,
    sharding.to_mesh(inputs),
    sharding.to_mesh(size),
    model=scorer.model,
  )
  return cache, bounds


def make_belief_fn(
  c, policy: FrozenModel, initial: FrozenModel | None
) -> Callable | None:
  """(episodes, cache, bounds) -> f32[B,K+1] beliefs; None without belief.

  c.dialogue.belief chooses the model whose belief is measured.

  Args:
    policy: which sampled the episodes, for 'current'.
    initial: the policy before training, for 'initial'.
  """
  if not c.dialogue.belief:
    return None
  limits = episode_end.dialogue_limits(c)
  elicit_from = functools.partial(
    elicit,
    max_turns=limits.turns,
    elicit_length=c.dialogue.max_elicit_length,
    chunk=c.logits_chunk,
  )
  if c.dialogue.belief == 'current':
    return lambda episodes, cache, bounds: elicit_from(
      episodes, cache, bounds, policy
    )

  def by_initial(episodes, cache, bounds):
    del cache, bounds  # of the policy, which sampled
    cache, bounds = replay_into_cache(
      episodes,
      initial,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      limits=limits,
    )
    return elicit_from(episodes, cache, bounds, initial)

  return by_initial

"""What the policy itself believes of the truth, turn by turn.

ΔBelief-RL (Auzina et al. 2026, arXiv 2602.12342) pays a turn for the rise of
log p(truth). The belief is read off the policy: after each reply it is made to
say "Is it 'truth'?", and the truth's own tokens are scored. No gradient passes.
Letters: as in `turns`, and K turns, E tokens of such a probe.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import (
  dialogue_sampler,
  layers,
  sampler,
  sharding,
  transformer,
)
from rlvr_jax.ops import logprob
from rlvr_jax.rollouts import episode
from rlvr_jax.rollouts.episode import Episode


@functools.partial(jax.jit, static_argnames=('model', 'chunk'))
def measure(
  params, memory, bounds, alive, probe, wanted, *, model, chunk: int
) -> jax.Array:
  """f32[B,K+1]: log p of the truth's tokens at K+1 moments, nats.

  At each moment every row that is alive goes on with its probe, as if the
  policy had said it (Auzina et al. 2026, arXiv 2602.12342): sum of
  log p(token) over the wanted tokens, at temperature 1. One forward pass a
  moment, for all rows; the memory stays as it is.

  Args:
    bounds: i32[B,K+1]: how many columns of the cache were there at a moment.
    alive: bool[B,K+1]; the others get 0.
    probe: i32[B,E], the words around the truth and itself, right-padded.
    wanted: bool[B,E], the truth's own tokens; never the first one.
    chunk: rows of logits at a time.
  """
  e, m = probe.shape[1], memory.written.shape[1]
  embedded = sampler.embed_tokens(params, model, probe)

  def at(moment):
    bound, here = moment

    def ask():
      sees = memory.written & (jnp.arange(m)[None] < bound[:, None])
      count = memory.seen.sum((1, 2, 3)).repeat(len(probe) // len(memory.seen))
      count = count + sees.sum(-1)
      x, _ = dialogue_sampler.through(
        params,
        model,
        embedded,
        count[:, None] + jnp.arange(e)[None],
        memory,
        sees[:, None, None],
        layers.causal(e),
      )
      norm = layers.RMSNorm(model.config.norm_eps, model.param_dtype)
      x = norm.apply({'params': params['final_norm']}, x)
      logp, _ = logprob.from_hidden(
        x[:, :-1],
        transformer.head_weight(params),
        probe[:, 1:],
        temperature=1.0,
        chunk=chunk,
      )
      total = jnp.where(wanted[:, 1:], logp, 0.0).sum(-1)
      return jnp.where(here, total, 0.0)

    return jax.lax.cond(here.any(), ask, lambda: jnp.zeros(len(probe)))

  moments = (jnp.moveaxis(bounds, 1, 0), jnp.moveaxis(alive, 1, 0))
  return jax.lax.map(at, moments).T


def probes(episodes, tokenizer, size: int) -> tuple[np.ndarray, np.ndarray]:
  """What the policy is made to say of the truth: ids i32[B,E], and which of
  them are the truth's, bool[B,E].

  Where no words follow the truth, the end of the message is the truth's too:
  nothing else would tell a name from those that begin with it.

  Raises:
    ValueError: more than `size` = E tokens, or none before the truth.
  """
  tokens = np.zeros((len(episodes), size), np.int32)
  wanted = np.zeros((len(episodes), size), bool)
  for row, g in enumerate(episodes):
    before, truth, after = dialogue.elicit(g.task)
    ids, inside = tokenizer.encode_between(before, truth, after)
    if not after:
      ids, inside = [*ids, tokenizer.end_id], [*inside, True]
    last = max((i for i, x in enumerate(inside) if x), default=0)
    if not 0 < last < size or inside[0]:
      raise ValueError(
        f'Task {g.task.id!r}: {before + truth!r} has {last + 1} tokens; it must '
        f'have words before the truth, and at most {size} tokens in all: see '
        'dialogue.max_elicit_length.'
      )
    tokens[row, : last + 1] = ids[: last + 1]
    wanted[row, : last + 1] = inside[: last + 1]
  return tokens, wanted


def elicit(
  episodes: Sequence[Episode],
  session,
  bounds,
  asked: FrozenModel,
  *,
  max_turns: int,
  elicit_length: int,
  chunk: int,
) -> np.ndarray:
  """f32[B,K+1]: log p(truth) before turn 0 and after each turn, nats.

  After its last turn a row keeps its value.

  Args:
    session, bounds: of `run_episodes` with this model, or of
      `replay_into_cache`.
  """
  b, moments = len(episodes), max_turns + 1
  tokens, wanted = probes(episodes, asked.tokenizer, elicit_length)
  alive = np.array(
    [[k <= len(g.messages) for k in range(moments)] for g in episodes]
  )
  bounds = np.broadcast_to(bounds, (b, np.shape(bounds)[-1]))
  more = moments - bounds.shape[1]
  bounds = np.pad(bounds, [(0, 0), (0, max(more, 0))], mode='edge')
  to_mesh = sharding.to_mesh
  out = measure(
    asked.sampler_params,
    session,
    to_mesh(bounds[:, :moments]),
    to_mesh(alive),
    to_mesh(tokens),
    to_mesh(wanted),
    model=asked.model,
    chunk=chunk,
  )
  out = np.array(sharding.to_host(out))
  for row, g in enumerate(episodes):
    out[row, len(g.messages) :] = out[row, len(g.messages)]
  return out


def replay_into_cache(
  episodes,
  asked: FrozenModel,
  *,
  group: int,
  max_prompt_length: int,
  limits: episode.Limits,
):
  """(session, bounds) of another model that has read these episodes."""
  p = len(episodes) // group
  prompt = np.zeros((p, max_prompt_length), np.int32)
  length = np.array([g.context_ends[0] for g in episodes[::group]], np.int32)
  for i, g in enumerate(episodes[::group]):
    prompt[i, : length[i]] = g.tokens[: length[i]]
  # The last reply may reach beyond the limit on what is trained.
  inputs = np.zeros((len(episodes), limits.columns), np.int32)
  size = np.zeros(len(episodes), np.int32)
  moments = max(len(g.context_ends) for g in episodes)
  bounds = np.zeros((len(episodes), moments), np.int32)
  for row, g in enumerate(episodes):
    start = g.context_ends[0] - 1
    ids = [*g.tokens, *g.last_reply][start:]
    inputs[row, : len(ids)], size[row] = ids, len(ids)
    heard = [h - start for h in g.context_ends]
    bounds[row] = heard + heard[-1:] * (moments - len(heard))
  session = dialogue_sampler.begin(
    asked.sampler_params,
    sharding.to_mesh(prompt),
    sharding.to_mesh(length),
    model=asked.model,
    group=group,
    columns=limits.columns,
  )
  session = dialogue_sampler.read(
    asked.sampler_params,
    session,
    sharding.to_mesh(inputs),
    sharding.to_mesh(size),
    model=asked.model,
  )
  return session, bounds


def make_belief_fn(
  c, policy: FrozenModel, initial: FrozenModel | None
) -> Callable | None:
  """(episodes, session, bounds) -> f32[B,K+1], by c.dialogue.belief.

  Args:
    policy: which has spoken in the episodes, for 'current'.
    initial: the policy as it was before training, for 'initial'.
  """
  if not c.dialogue.belief:
    return None
  limits = episode.dialogue_limits(c)
  ask = functools.partial(
    elicit,
    max_turns=limits.turns,
    elicit_length=c.dialogue.max_elicit_length,
    chunk=c.logits_chunk,
  )
  if c.dialogue.belief == 'current':
    return lambda episodes, session, bounds: ask(
      episodes, session, bounds, policy
    )

  def by_initial(episodes, session, bounds):
    del session, bounds  # the policy's own
    again = replay_into_cache(
      episodes,
      initial,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      limits=limits,
    )
    return ask(episodes, *again, initial)

  return by_initial

"""What the policy itself believes of the truth, turn by turn.

ΔBelief-RL (Auzina et al. 2026, arXiv 2602.12342) pays a turn for the rise of
log p(truth). The belief is read off the policy: after each reply it is made to
say "Is it 'truth'?", and the truth's own tokens are scored. No gradient passes.
Letters: as in `turns`, and K turns, E tokens of such a probe.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.models import (
  dialogue_sampler,
  layers,
  sampler,
  sharding,
  transformer,
)
from rlvr_jax.ops import logprob
from rlvr_jax.rollouts.episode import Game


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


def probes(games, tokenizer, size: int) -> tuple[np.ndarray, np.ndarray]:
  """What the policy is made to say of the truth: ids i32[B,E], and which of
  them are the truth's, bool[B,E].

  Where no words follow the truth, the end of the message is the truth's too:
  nothing else would tell a name from those that begin with it.

  Raises:
    ValueError: more than `size` = E tokens, or none before the truth.
  """
  tokens = np.zeros((len(games), size), np.int32)
  wanted = np.zeros((len(games), size), bool)
  for row, g in enumerate(games):
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


def beliefs(
  games: Sequence[Game],
  session,
  bounds,
  params,
  *,
  model,
  tokenizer,
  put,
  max_turns: int,
  elicit_length: int,
  chunk: int,
) -> np.ndarray:
  """f32[B,K+1]: log p(truth) before turn 0 and after each turn, nats.

  After its last turn a row keeps its value.

  Args:
    session, bounds: of `play` with these parameters, or of `recall`.
  """
  b, moments = len(games), max_turns + 1
  tokens, wanted = probes(games, tokenizer, elicit_length)
  alive = np.array([[k <= len(g.said) for k in range(moments)] for g in games])
  bounds = np.broadcast_to(bounds, (b, np.shape(bounds)[-1]))
  more = moments - bounds.shape[1]
  bounds = np.pad(bounds, [(0, 0), (0, max(more, 0))], mode='edge')
  out = measure(
    params,
    session,
    put(bounds[:, :moments]),
    put(alive),
    put(tokens),
    put(wanted),
    model=model,
    chunk=chunk,
  )
  out = np.array(sharding.to_host(out))
  for row, g in enumerate(games):
    out[row, len(g.said) :] = out[row, len(g.said)]
  return out


def recall(games, params, *, model, put, group, max_prompt_length, limits):
  """(session, bounds) of another model that has read these games."""
  p = len(games) // group
  prompt = np.zeros((p, max_prompt_length), np.int32)
  length = np.array([g.heard[0] for g in games[::group]], np.int32)
  for i, g in enumerate(games[::group]):
    prompt[i, : length[i]] = g.tokens[: length[i]]
  # The last reply may reach beyond the limit on what is trained.
  fed = np.zeros((len(games), limits.columns), np.int32)
  size = np.zeros(len(games), np.int32)
  moments = max(len(g.heard) for g in games)
  bounds = np.zeros((len(games), moments), np.int32)
  for row, g in enumerate(games):
    start = g.heard[0] - 1
    ids = [*g.tokens, *g.rest][start:]
    fed[row, : len(ids)], size[row] = ids, len(ids)
    heard = [h - start for h in g.heard]
    bounds[row] = heard + heard[-1:] * (moments - len(heard))
  session = dialogue_sampler.begin(
    params,
    put(prompt),
    put(length),
    model=model,
    group=group,
    columns=limits.columns,
  )
  return dialogue_sampler.read(
    params, session, put(fed), put(size), model=model
  ), bounds

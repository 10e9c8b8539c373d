"""W4 of scripts/bench.py: dialogues against single-turn sampling.

8 secrets x 8 dialogues x 10 turns of 20 Questions about people
(`characters()`), SmolLM2-135M-Instruct, up to 16 tokens a message, replies from
a table; then the belief before and after every turn; then 64 single-turn
completions with as many tokens. The three alternate, so that noise of the
machine affects all alike. One repeat before the measured ones compiles.

A dialogue also reads: each reply, with the chat template around it, passes
through the model. So there is a count of the tokens computed for each sampled
token, which bounds the speed where tokens cost alike, read or sampled.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

TURNS, MESSAGE = 10, 16


def run(repeats: int, dtype: str, seed: int = 0) -> dict:
  """{name: a value per repeat}: seconds, sampled tokens, turns."""
  import jax.numpy as jnp

  from rlvr_jax.envs import guessing
  from rlvr_jax.io import load
  from rlvr_jax.io.frozen_model import FrozenModel
  from rlvr_jax.models import sharding, transformer

  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  loaded = load.load('smollm2', dtype='float32')
  model = transformer.Decoder(loaded.config, dtype=jnp.dtype(dtype))
  params = sharding.put_params(loaded.params, model, mesh)
  policy = FrozenModel(
    model,
    loaded.tokenizer,
    sampler_params=sharding.to_sampler(model, mesh)(params),
  )
  tasks = guessing.guessing(world='characters()')['test']
  with sharding.use(mesh):
    return _measure(policy, [tasks[i] for i in range(8)], seed, repeats)


def _measure(policy, tasks, seed, repeats):
  from rlvr_jax.io import frozen_model
  from rlvr_jax.models import sampler
  from rlvr_jax.rollouts import belief, episode, episode_end

  limits = episode_end.Limits(TURNS, MESSAGE, 16, TURNS * (MESSAGE + 16), 0)
  sampling = sampler.Sampling(MESSAGE, policy.tokenizer.end_ids)
  encode = lambda task: policy.tokenizer.encode_chat(task.question)
  out = {
    'games_s': [],
    'belief_s': [],
    'single_s': [],
    'tokens': [],
    'computed': [],
    'needed': [],
    'turns': [],
  }
  length = 0
  for i in range(repeats + 1):
    start = time.perf_counter()
    key = jax.random.key(seed + i)
    actor = episode.policy_actor(policy, sampling, key, group=8, limits=limits)
    episodes, session, bounds = episode.run_episodes(
      tasks,
      actor,
      encode=encode,
      tokenizer=policy.tokenizer,
      group=8,
      max_prompt_length=256,
      limits=limits,
    )
    played = time.perf_counter()
    belief.elicit(
      episodes,
      session,
      bounds,
      policy,
      max_turns=TURNS,
      elicit_length=8,
      chunk=1024,
    )
    believed = time.perf_counter()
    del session
    tokens = sum(sum(g.counts) for g in episodes)
    # One shape in all repeats: the length of the first one, which compiles.
    length = length or -(-tokens // 64)
    begin = time.perf_counter()
    sampled = frozen_model.sample(
      policy,
      *_prompts(tasks, encode),
      key,
      sampler.Sampling(length, ()),
      group=8,
    )
    jax.block_until_ready(sampled)
    single = time.perf_counter() - begin
    if i:
      out['games_s'].append(played - start)
      out['belief_s'].append(believed - played)
      out['single_s'].append(single * tokens / (64 * length))
      out['tokens'].append(tokens)
      computed, needed = work(episodes, limits.fed)
      out['computed'].append(computed)
      out['needed'].append(needed)
      out['turns'].append(sum(len(g.messages) for g in episodes))
  return out


def work(episodes, fed: int) -> tuple[int, int]:
  """(tokens that pass through the model, those among them that must).

  Without the prompts. All rows of a batch go on to the end of the longest turn,
  and read as many columns as the longest reply may have.

  Args:
    episodes: B of them.
    fed: columns of what is read before a turn, and after the last.
  """
  turns = max(len(e.counts) for e in episodes)
  counts = np.zeros((len(episodes), turns), int)
  for row, e in enumerate(episodes):
    counts[row, : len(e.counts)] = e.counts
  # What a turn reads gives its first token.
  columns = (fed + counts.max(0) - 1).sum() + fed
  needed = sum(len(e.tokens) + len(e.last_reply) for e in episodes)
  prompts = sum(e.context_ends[0] for e in episodes)
  return len(episodes) * int(columns), needed - prompts


def _prompts(tasks, encode):
  from rlvr_jax.rollouts import single_turn

  return single_turn.encode_prompts(tasks, encode, 256)


def show(result: Mapping[str, Sequence[float]]) -> None:
  """Prints medians [min, max] and their ratios."""

  def spread(values, form='{:.1f}'):
    parts = statistics.median(values), min(values), max(values)
    return '{} [{}, {}]'.format(*(form.format(x) for x in parts))

  rate = np.array(result['tokens']) / np.array(result['games_s'])
  single = np.array(result['tokens']) / np.array(result['single_s'])
  share = np.array(result['belief_s']) / np.array(result['games_s'])
  print(
    f'{spread(result["tokens"], "{:.0f}")} tokens in '
    f'{spread(result["turns"], "{:.0f}")} turns'
  )
  print(
    f'dialogues      {spread(result["games_s"])} s, {spread(rate)} tokens/s'
  )
  print(
    f'single-turn    {spread(result["single_s"])} s, {spread(single)} tokens/s'
  )
  print(f'dialogues / single-turn, tokens/s: {spread(rate / single, "{:.2f}")}')
  of = lambda name: np.array(result[name]) / np.array(result['tokens'])
  print(
    f'computed       {spread(of("computed"), "{:.2f}")} tokens for each sampled '
    f'one, {spread(of("needed"), "{:.2f}")} without padding'
  )
  print(
    f'beliefs        {spread(result["belief_s"])} s, '
    f'{spread(share, "{:.2f}")} of the dialogues'
  )

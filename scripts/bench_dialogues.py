"""W4 of scripts/bench.py: dialogues against single answers of as many tokens.

8 secrets x 8 games x 10 turns of 20 Questions about people (`characters()`),
SmolLM2-135M-Instruct, up to 16 tokens a message, a table that answers; then
the belief before and after every turn, one pass a moment; then one sampling of
64 single answers with as many tokens. In turns, so that a noisy machine
disturbs all alike. Compilation is left out: each is done once before.
"""

import statistics
import time

import jax
import numpy as np

TURNS, MESSAGE = 10, 16


def run(repeats: int, dtype: str, seed: int = 0) -> dict:
  """{name: seconds of each repeat}, and the tokens sampled in them."""
  import jax.numpy as jnp

  from rlvr_jax.envs import guessing
  from rlvr_jax.io import load
  from rlvr_jax.io.frozen_model import FrozenModel
  from rlvr_jax.models import sharding, transformer

  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  loaded = load.load('smollm2', dtype='float32')
  model = transformer.Decoder(loaded.config, dtype=jnp.dtype(dtype))
  params = sharding.put_params(loaded.params, model, mesh)
  asked = FrozenModel(
    model,
    loaded.tokenizer,
    sampler_params=sharding.to_sampler(model, mesh)(params),
  )
  tasks = guessing.guessing(world='characters()')['test']
  with sharding.use(mesh):
    return _measure(asked, [tasks[i] for i in range(8)], seed, repeats)


def _measure(asked, tasks, seed, repeats):
  from rlvr_jax.io import frozen_model
  from rlvr_jax.models import sampler
  from rlvr_jax.rollouts import belief, episode

  limits = episode.Limits(TURNS, MESSAGE, 16, TURNS * (MESSAGE + 16), 0)
  sampling = sampler.Sampling(MESSAGE, asked.tokenizer.end_ids)
  encode = lambda task: asked.tokenizer.encode_chat(task.question)
  out = {
    'games_s': [],
    'belief_s': [],
    'single_s': [],
    'tokens': [],
    'turns': [],
  }
  length = 0
  for i in range(repeats + 1):
    start = time.perf_counter()
    key = jax.random.key(seed + i)
    actor = episode.policy_actor(asked, sampling, key, group=8, limits=limits)
    episodes, session, bounds = episode.run_episodes(
      tasks,
      actor,
      encode=encode,
      tokenizer=asked.tokenizer,
      group=8,
      max_prompt_length=256,
      limits=limits,
    )
    played = time.perf_counter()
    belief.elicit(
      episodes,
      session,
      bounds,
      asked,
      max_turns=TURNS,
      elicit_length=8,
      chunk=1024,
    )
    believed = time.perf_counter()
    del session
    tokens = sum(sum(g.counts) for g in episodes)
    # One shape in all repeats: the length of the first, which compiles.
    length = length or -(-tokens // 64)
    begin = time.perf_counter()
    sampled = frozen_model.sample(
      asked,
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
      out['turns'].append(sum(len(g.messages) for g in episodes))
  return out


def _prompts(tasks, encode):
  from rlvr_jax.rollouts import single_turn

  return single_turn.encode_prompts(tasks, encode, 256)


def show(found: dict) -> None:
  """Medians [least, most], and what they are of one another."""

  def spread(values, form='{:.1f}'):
    parts = statistics.median(values), min(values), max(values)
    return '{} [{}, {}]'.format(*(form.format(x) for x in parts))

  rate = np.array(found['tokens']) / np.array(found['games_s'])
  single = np.array(found['tokens']) / np.array(found['single_s'])
  share = np.array(found['belief_s']) / np.array(found['games_s'])
  print(
    f'{spread(found["tokens"], "{:.0f}")} tokens in {spread(found["turns"], "{:.0f}")} turns'
  )
  print(f'dialogues      {spread(found["games_s"])} s, {spread(rate)} tokens/s')
  print(
    f'single answers {spread(found["single_s"])} s, {spread(single)} tokens/s'
  )
  print(f'dialogues are at {spread(rate / single, "{:.2f}")} of single answers')
  print(
    f'beliefs        {spread(found["belief_s"])} s, {spread(share, "{:.2f}")} of collection'
  )

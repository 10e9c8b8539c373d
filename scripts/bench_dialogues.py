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
  from rlvr_jax.models import sampler, sharding, transformer
  from rlvr_jax.rollouts import belief, episode

  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  loaded = load.load('smollm2', dtype='float32')
  model = transformer.Decoder(loaded.config, dtype=jnp.dtype(dtype))
  params = sharding.put_params(loaded.params, model, mesh)
  params = sharding.to_sampler(model, mesh)(params)
  tokenizer = loaded.tokenizer
  tasks = guessing.guessing(world='characters()')['test']
  tasks = [tasks[i] for i in range(8)]
  limits = episode.Limits(TURNS, MESSAGE, 16, TURNS * (MESSAGE + 16), 0)
  put = lambda x: jnp.asarray(x)
  how = sampler.Sampling(MESSAGE, tokenizer.end_ids)
  encode = lambda task: tokenizer.encode_chat(task.question)
  shared = dict(model=model, tokenizer=tokenizer, put=put)
  out = {
    'games_s': [],
    'belief_s': [],
    'single_s': [],
    'tokens': [],
    'turns': [],
  }
  for i in range(repeats + 1):
    start = time.perf_counter()
    speaker = episode.policy(
      params,
      model=model,
      how=how,
      put=put,
      key=jax.random.key(seed + i),
      group=8,
      limits=limits,
    )
    games, session, heard = episode.play(
      tasks,
      speaker,
      encode=encode,
      tokenizer=tokenizer,
      group=8,
      max_prompt_length=256,
      limits=limits,
    )
    played = time.perf_counter()
    belief.beliefs(
      games,
      session,
      heard,
      params,
      max_turns=TURNS,
      elicit_length=8,
      chunk=1024,
      **shared,
    )
    believed = time.perf_counter()
    del session
    tokens = sum(sum(g.counts) for g in games)
    # One shape in all repeats: the length of the first, which compiles.
    length = -(-tokens // 64) if i == 0 else length
    prompt, size = _prompts(tasks, encode)
    begin = time.perf_counter()
    drawn = sampler.sample(
      params,
      put(prompt),
      put(size),
      jax.random.key(seed + i),
      model=model,
      how=sampler.Sampling(length, ()),
      group=8,
    )
    jax.block_until_ready(drawn)
    single = time.perf_counter() - begin
    if i:
      out['games_s'].append(played - start)
      out['belief_s'].append(believed - played)
      out['single_s'].append(single * tokens / (64 * length))
      out['tokens'].append(tokens)
      out['turns'].append(sum(len(g.said) for g in games))
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

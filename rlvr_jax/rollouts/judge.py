"""Games of a run: who speaks, who answers, what the policy believes."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.models import sampler, sharding
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import belief, episode, episode_scores, single_turn


def limits(c, evaluating: bool = False) -> episode.Limits:
  """Of a config's games; an evaluation may be longer, its length in step."""
  d, turns = c.dialogue, c.dialogue.max_turns
  message = c.max_completion_length
  length = d.max_length or turns * (message + d.max_reply_length)
  if evaluating and c.eval.max_turns:
    length = -(-length * c.eval.max_turns // turns)
    turns = c.eval.max_turns
  return episode.Limits(
    turns=turns,
    message=message,
    reply=d.max_reply_length,
    length=length,
    invalid=d.max_invalid_turns,
  )


def oracle(c, judge, put) -> Callable:
  """What answers: the environment itself, or the model of dialogue.oracle.

  Args:
    judge: (model, parameters in the sampler's layout, tokenizer), or None.
  """
  if judge is None:
    return episode.table
  model, params, tokenizer = judge
  how = sampler.Sampling(
    c.dialogue.max_oracle_length, tokenizer.end_ids, temperature=0.0
  )

  def encode(item):
    task, said = item
    ids = tokenizer.encode_messages(dialogue.judge_prompt(task, said))
    # The oldest questions give way: what repeats them is found without it.
    while len(ids) > c.dialogue.max_oracle_prompt and len(said) > 1:
      said = said[1:]
      ids = tokenizer.encode_messages(dialogue.judge_prompt(task, said))
    return ids

  def answer(tasks, said):
    items = list(zip(tasks, said, strict=True))
    replies = []
    # Batches of one shape, whatever number of games is left.
    shards = sharding.batch_shards_in_use()
    size = sharding.whole(c.dialogue.oracle_batch_size, shards)
    for start in range(0, len(items), size):
      some = items[start : start + size]
      full = some + some[:1] * (size - len(some))
      prompt, length = _prompts(full, encode, c.dialogue.max_oracle_prompt)
      drawn = sharding.to_host(
        sampler.sample(
          params,
          put(prompt),
          put(length),
          jax.random.key(0),
          model=model,
          how=how,
        )
      )
      for row, (task, texts) in enumerate(some):
        ids = drawn.tokens[row, : drawn.length[row]]
        raw = single_turn.text_of(tokenizer, ids)
        replies.append(dialogue.judged(task, texts, raw))
    return replies

  return answer


def _prompts(items, encode, size: int):
  """(tokens i32[B,S], length i32[B]); ValueError for one beyond S."""
  tokens = np.zeros((len(items), size), np.int32)
  length = np.zeros(len(items), np.int32)
  for row, item in enumerate(items):
    ids = encode(item)
    if len(ids) > size:
      raise ValueError(
        f'The oracle has to read {len(ids)} tokens about task {item[0].id!r}; '
        f'dialogue.max_oracle_prompt is {size}. Raise it.'
      )
    tokens[row, : len(ids)], length[row] = ids, len(ids)
  return tokens, length


def collect(
  c,
  tasks: Sequence,
  speaker: episode.Speaker,
  *,
  encode: Callable,
  tokenizer,
  answer: Callable,
  reward: base.Reward,
  believe: Callable | None,
  clock: Callable = lambda name: None,
) -> single_turn.Collected:
  """c.num_generations games of each task, with rewards and beliefs.

  Args:
    answer: from `oracle`.
    believe: from `believer`, or None for no beliefs.
    clock: called with the name of the stage that ends.
  """
  bounds = limits(c)
  played, session, heard = episode.play(
    tasks,
    speaker,
    encode=encode,
    tokenizer=tokenizer,
    group=c.num_generations,
    max_prompt_length=c.max_prompt_length,
    limits=bounds,
    oracle=answer,
  )
  clock('rollout')
  believed = None
  if believe is not None:
    believed = believe(played, session, heard)
    if not c.dialogue.belief_on_win:
      for row, g in enumerate(played):
        if g.won:
          believed[row, len(g.said) :] = believed[row, len(g.said) - 1]
    clock('belief')
  graded = episode_scores.grade(played, reward)
  out = episode_scores.collect(
    played,
    graded,
    believed,
    group=c.num_generations,
    max_turns=bounds.turns,
    columns=c.max_prompt_length + bounds.length,
  )
  clock('reward')
  return out


def believer(c, params, frozen, *, model, tokenizer, put) -> Callable | None:
  """(games, session, bounds) -> f32[B,K+1], by c.dialogue.belief.

  Args:
    params: the policy's, which have played, in the sampler's layout.
    frozen: those of the initial policy, for 'initial'.
  """
  if not c.dialogue.belief:
    return None
  bounds = limits(c)
  ask = functools.partial(
    belief.beliefs,
    model=model,
    tokenizer=tokenizer,
    put=put,
    max_turns=bounds.turns,
    elicit_length=c.dialogue.max_elicit_length,
    chunk=c.logits_chunk,
  )
  if c.dialogue.belief == 'current':
    return lambda played, session, heard: ask(played, session, heard, params)

  def by_initial(played, session, heard):
    again = belief.recall(
      played,
      frozen,
      model=model,
      put=put,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      limits=bounds,
    )
    return ask(played, *again, frozen)

  return by_initial


def demonstrations(tasks, group: int) -> list[list[str]]:
  """The messages that method='sft' imitates, for each row.

  Raises:
    ValueError: a task without data['demonstration'].
  """
  for task in tasks:
    if not task.data.get('demonstration'):
      raise ValueError(
        f"Task {task.id!r} has no data['demonstration'], the messages that "
        "method='sft' imitates in a dialogue."
      )
  return [t.data['demonstration'] for t in tasks for _ in range(group)]

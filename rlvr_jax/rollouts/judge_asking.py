"""How is a model asked for judgments, and what are these as rows?"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.io import frozen_model
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding
from rlvr_jax.rollouts import judge_controls as controls
from rlvr_jax.rollouts import single_turn
from rlvr_jax.verifiers import judgments

Read = list[list[judgments.Judgment | None]]


class Asked(NamedTuple):
  """N prompts of a judge, and K samples of each.

  Attributes:
    read: [N][K] judgments, None for unreadable ones.
    prompt, length: i32[N,S], i32[N]; length 0: not asked, as it is too long or
      holds a text that the judge's tokenizer refuses.
    sampled: host arrays, N*K rows.
    seed: of a control's verdicts.
  """

  read: Read
  prompt: np.ndarray
  length: np.ndarray
  sampled: sampler.Sampled | None
  seed: list[int]


def ask(
  config: Any,
  format: str,
  model: FrozenModel,
  key: jax.Array,
  items: Sequence[tuple[str, list[str]]],
  samples: int,
) -> Asked:
  """`samples` judgments of each (question, responses as shown).

  A prompt's key is that of its place: the size of a batch changes nothing.

  Args:
    config: the section `judge` of a config.
    format: a judge by name.
  """
  c, tokenizer = config, model.tokenizer
  seed = np.asarray(jax.random.key_data(key)).tolist()
  if isinstance(controls.of(c.control), controls.Noisy):
    n = len(items)
    read: Read = [[None] * samples for _ in items]
    width = np.zeros((n, 0), np.int32)
    return Asked(read, width, np.ones(n, np.int32), None, seed)
  judge = judgments.format_of(format)
  width = c.max_prompt_length
  ids = [_prompt(tokenizer, judge.prompt(*x), width) for x in items]
  prompt = np.zeros((len(ids), width), np.int32)
  length = np.array([len(x) for x in ids], np.int32)
  for i in np.flatnonzero(length):
    prompt[i, : length[i]] = ids[i]
  sampling = sampler.Sampling(
    c.max_completion_length, tokenizer.end_ids, c.temperature
  )
  sampled = _sample(model, prompt, length, key, sampling, samples, c.batch_size)
  read = []
  for row in range(len(ids)):
    # A thought may begin in the prompt: one that never closes is no verdict.
    texts = [
      tokenizer.prefill
      + tokenizer.decode(sampled.tokens[b, : sampled.length[b]])
      for b in range(row * samples, (row + 1) * samples)
    ]
    n = len(items[row][1])
    read.append([judge.read(t, n) if length[row] else None for t in texts])
  return Asked(read, prompt, length, sampled, seed)


def _prompt(
  tokenizer: Tokenizer, messages: judgments.Messages, most: int
) -> list[int]:
  """Ids; none if they are more than `most`, or the tokenizer refuses a text."""
  try:
    ids = tokenizer.encode_messages(messages)
  except ValueError:  # what a policy wrote, which no run may end for
    return []
  return ids if len(ids) <= most else []


def _sample(
  model: FrozenModel,
  prompt: np.ndarray,
  length: np.ndarray,
  key: jax.Array,
  sampling: sampler.Sampling,
  group: int,
  batch_size: int,
) -> sampler.Sampled:
  """Host arrays of `group` rows for each prompt, in batches of one shape.

  A prompt's key is that of its place: the size of a batch changes nothing.
  """
  n = len(prompt)
  size = sharding.whole(batch_size, sharding.batch_shards_in_use())
  parts = []
  for start in range(0, n, size):
    at = np.minimum(np.arange(start, start + size), n - 1)
    out = frozen_model.sample(
      model,
      prompt[at],
      np.maximum(length[at], 1),
      _keys(key, at),
      sampling,
      group=group,
    )
    keep = min(size, n - start) * group
    parts.append([x[:keep] for x in sharding.to_host(out)])
  fields: list[Any] = [np.concatenate(x) for x in zip(*parts)]
  return sampler.Sampled(*fields)


@jax.jit
def _keys(key: jax.Array, place: np.ndarray) -> jax.Array:
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.asarray(place))


def as_rollout(
  asked: Asked, reward: np.ndarray
) -> tuple[types.Rollout, types.Score]:
  """The judgments of each pair as a group of K rows, both orders.

  A prompt that was too long has no sampled token, and its turn did not take
  place.

  Args:
    reward: f32[pairs,K].
  """
  pairs, k = reward.shape
  assert asked.sampled is not None
  rows = len(asked.sampled.length)
  fits = np.repeat(asked.length > 0, rows // len(asked.length))
  rollout = single_turn.to_rollout(
    asked.prompt,
    np.maximum(asked.length, 1),
    asked.sampled._replace(length=asked.sampled.length * fits),
    rows // len(asked.length),
  )
  grouped = lambda x: x.reshape(pairs, k, *x.shape[2:])
  turns = fits.reshape(pairs, k, 1)
  score = types.Score(
    reward=np.where(turns, reward[..., None], 0).astype(np.float32),
    turns=turns,
    belief=None,
    verdict=np.full((pairs, k), enums.Verdict.UNVERIFIABLE, np.int32),
  )
  rollout = jax.tree.map(grouped, rollout)
  types.check_rollout(rollout, score)
  return rollout, score

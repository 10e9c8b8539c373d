"""How likely one policy's responses are under another one."""

from typing import NamedTuple

import jax
import numpy as np

from rlvr_jax import types
from rlvr_jax.evaluation import evaluate, sample_store
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.rollouts import single_turn
from rlvr_jax.stats import coverage


class Responses(NamedTuple):
  """N responses to each of M tasks, M*N rows, those of a round adjacent."""

  tokens: np.ndarray  # i32[B,T], prompt and response
  mask: np.ndarray  # bool[B,T], the response
  tasks: int


def responses(c, asked: FrozenModel, tasks, rounds: int, mesh) -> Responses:
  """The first `rounds` samples that an evaluation draws of these tasks."""
  prompt, length = single_turn.encode_prompts(
    tasks, evaluate.encoder(c, asked), c.max_prompt_length
  )
  sampling = evaluate.sampling(
    c, asked.tokenizer.end_ids, shrink=mesh.size == 1
  )
  parts, total = [], len(tasks) * rounds
  items = [sample_store.item(j, len(tasks)) for j in range(total)]
  for some in evaluate.batches(items, evaluate.batch_size(c, mesh)):
    which, round_ = np.array(some, np.int32).T
    key = evaluate.keys(c.seed, which, round_)
    out = sharding.to_host(
      frozen_model.sample(asked, prompt[which], length[which], key, sampling)
    )
    parts.append(single_turn.to_rollout(prompt[which], length[which], out, 1))
  whole: types.Rollout = jax.tree.map(
    lambda *x: np.concatenate(x)[:total, 0], *parts
  )
  return Responses(whole.tokens, whole.turn >= 0, len(tasks))


def perplexities(c, asked: FrozenModel, given: Responses, mesh) -> np.ndarray:
  """f64[B]: exp(-mean log p) of each response at temperature 1.

  Args:
    asked: has `params`.
    given: whoever wrote them.
  """
  # A forward pass keeps more for a row than decoding does.
  size = sharding.batch_shards(mesh) * 4
  score = micro_batch.scorer(
    asked.model,
    mesh,
    temperature=1.0,
    shapes=micro_batch.Shapes(
      group=1,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=size,
      chunk=c.logits_chunk,
      pack=mesh.size == 1,
    ),
  )
  parts = []
  for some in evaluate.batches(range(len(given.tokens)), size):
    batch = types.Batch(
      tokens=given.tokens[some],
      mask=given.mask[some],
      adv=None,
      logp_old=None,
      logp_ref=None,
    )
    parts.append(
      sharding.to_host(score(asked.params, sharding.to_mesh(batch)).logp)
    )
  logp = np.concatenate(parts)[: len(given.tokens)]
  return coverage.perplexity(logp, given.mask)

"""How likely are one policy's responses under another policy?"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from rlvr_jax import types
from rlvr_jax.evaluation import evaluate, sample_store
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.rollouts import single_turn
from rlvr_jax.stats import coverage
from rlvr_jax.tasks import Task


class Responses(NamedTuple):
  """N responses to each of M tasks: B = M*N rows, rows of a round adjacent."""

  tokens: np.ndarray  # i32[B,T], prompt and response
  mask: np.ndarray  # bool[B,T], tokens of the response
  tasks: int


def responses(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  tasks: Sequence[Task],
  rounds: int,
  mesh: jax.sharding.Mesh,
) -> Responses:
  """Samples `rounds` responses to each task: the first ones of an evaluation.

  Not read from the sample store, which keeps no tokens.
  """
  prompt, length = single_turn.encode_prompts(
    tasks, evaluate.encoder(c, policy), c.max_prompt_length
  )
  if c.eval.branch:  # of which there are no more
    rounds = min(rounds, c.eval.samples)
  parts, total = [], len(tasks) * rounds
  items = [sample_store.item(j, len(tasks)) for j in range(total)]
  size = evaluate.batch_size(c, mesh, len(tasks))
  for batch in evaluate.batches(items, size):
    which, round_ = np.array(batch, np.int32).T
    rows = prompt[which], length[which]
    out = evaluate.draw(c, policy, *rows, which, round_, mesh)
    out = sharding.to_host(out)
    parts.append(single_turn.to_rollout(prompt[which], length[which], out, 1))
  whole: types.Rollout = jax.tree.map(
    lambda *x: np.concatenate(x)[:total, 0], *parts
  )
  return Responses(whole.tokens, whole.turn >= 0, len(tasks))


def perplexities(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  given: Responses,
  mesh: jax.sharding.Mesh,
) -> np.ndarray:
  """f64[B]: exp(-mean log p) of each response at temperature 1.

  Args:
    policy: with `params`.
    given: by any policy of the same vocabulary.
  """
  # Fewer rows than eval.batch_size: a forward pass needs more memory a row
  # than decoding does.
  size = sharding.batch_shards(mesh) * 4
  score = micro_batch.scorer(
    policy.model,
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
  for rows in evaluate.batches(range(len(given.tokens)), size):
    batch = types.Batch(
      tokens=given.tokens[rows],
      mask=given.mask[rows],
      adv=None,
      logp_old=None,
      logp_ref=None,
    )
    parts.append(
      sharding.to_host(score(policy.params, sharding.to_mesh(batch)).logp)
    )
  logp = np.concatenate(parts)[: len(given.tokens)]
  return coverage.perplexity(logp, given.mask)

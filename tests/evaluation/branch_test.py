"""CoT decoding and answer confidence, of the weights of a small run."""

import jax
import numpy as np
import pytest

from rlvr_jax import config, experiment
from rlvr_jax.evaluation import (
  checkpoint_eval,
  eval_metrics,
  evaluate,
  sample_transcripts,
)
from rlvr_jax.models import sharding, transformer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import single_turn

VOCAB, TASKS = 264, 2  # of the model; its tokenizer has 259


@pytest.fixture(scope='module')
def evaluated(smoke, one_device, tmp_path_factory):
  """(table, file, logits of the answer f32[M,V]) of all first tokens.

  Answers are one token, so that a branch is a token.
  """
  workdir, _ = smoke
  c = config.of_run(workdir, ())
  c.eval.branch = True
  c.eval.samples, c.eval.num_tasks, c.eval.batch_size = VOCAB, TASKS, 264
  folder = tmp_path_factory.mktemp('branches')
  x = experiment.create(c)
  with sharding.use(x.mesh):
    policy = x.checkpoint(workdir, None, scoring=True)
    go = lambda: checkpoint_eval.evaluate_checkpoint(
      c, policy, x.all_eval_tasks, folder, x.mesh, lambda line: None
    )
    table = go()
    for a, b in zip(go(), table, strict=True):  # from the file
      np.testing.assert_array_equal(a, b)
    prompt, length = single_turn.encode_prompts(
      x.all_eval_tasks, evaluate.encoder(c, policy), c.max_prompt_length
    )
    run = jax.jit(transformer.logits, static_argnames='model')
    logits = np.asarray(run(policy.params, prompt, model=policy.model))
  (path,) = folder.glob('samples-*')
  return table, path, logits[np.arange(TASKS), length - 1]


def test_every_first_token_is_a_branch(evaluated):
  table, path, logits = evaluated
  tasks, transcripts = sample_transcripts.read(path)
  texts = [[t.completion for t in transcripts[m::TASKS]] for m in range(TASKS)]
  for m, row in enumerate(logits):
    order = np.argsort(-row, kind='stable')
    for token, text, right in zip(order, texts[m], table.right[m], strict=True):
      assert (text == chr(token)) == (token < 128)
      assert right == (text == tasks[m].answer)
  got = eval_metrics.summary(table)
  assert got['eval/accuracy'] == pytest.approx(1 / VOCAB)
  assert got[f'eval/pass@{VOCAB}'] == 1
  assert got['eval/answer_located'] == pytest.approx(10 / VOCAB)  # the digits
  assert got['eval/branches/end'] == pytest.approx(1 / VOCAB)
  blank = sum(not chr(t).strip() for t in range(128))
  # Blanks, halves of characters, special tokens, and ids that are no tokens.
  junk = blank + VOCAB - 128 - 1
  assert got['eval/branches/junk'] == pytest.approx(junk / VOCAB)


def test_signals_of_samples_are_those_of_the_logits(evaluated):
  """All branches have one position: the gap is the same, its answer is not."""
  table, path, logits = evaluated
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p = np.sort(p / p.sum(-1, keepdims=True), -1)
  gap = p[:, -1] - p[:, -2]
  for m in range(TASKS):
    located = table.gap[m] >= 0
    np.testing.assert_allclose(table.gap[m][located], gap[m], atol=2e-6)
    assert (table.gap[m][~located] == -1).all()
  tasks, transcripts = sample_transcripts.read(path)
  reward = base.build(['answer_gap', 'outcome'], [1.0, 1.0])
  results = reward(tasks, transcripts)
  assert sum(not r.refused for r in results) == 10 * TASKS
  # Of equal gaps the more likely first token counts.
  best = [max('0123456789', key=lambda d: row[ord(d)]) for row in logits]
  got = eval_metrics.summary(table)
  want = np.mean([b == t.answer for b, t in zip(best, tasks, strict=False)])
  assert got[f'eval/cot_decoding@{VOCAB}'] == want
  assert got['eval/cot_decoding@1'] == table.right[:, 0].mean()

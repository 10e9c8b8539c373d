"""The fields of a row of rollouts.jsonl."""

from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups
from rlvr_jax.tasks import Task


def lines(collected: groups.Collected, split: str, limit: int) -> list[dict]:
  """Records for rollouts.jsonl: the first `limit` rows, group by group."""
  out = []
  for p, task in enumerate(collected.tasks):
    rows = zip(collected.transcripts[p], collected.results[p], strict=True)
    for i, (t, r) in enumerate(rows):
      if len(out) == limit:
        return out
      line = record(task, t, split) | {'reward': r.value, 'parts': r.parts}
      out.append(
        line | (collected.log_fields[p][i] if collected.log_fields else {})
      )
  return out


def record(task: Task, t: base.Transcript, split: str) -> dict:
  """The fields of rollouts.jsonl for one completion."""
  feedback = {} if t.feedback is None else {'feedback': t.feedback}
  return {
    'split': split,
    'id': task.id,
    'question': task.question,
    'answer': task.answer,
    'completion': t.completion,
    'tokens': t.num_tokens,
    'verdict': t.verdict.name,
    'fallback': t.fallback,
    'timed_out': t.timed_out,
    'stop': t.stop.name,
    **feedback,
    # The question of a chat is all of it as text.
    **{k: task.data[k] for k in ('messages',) if k in task.data},
  }

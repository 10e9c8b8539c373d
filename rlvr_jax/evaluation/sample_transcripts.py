"""Which texts does a file of samples hold?"""

import math
import os
import pathlib

from rlvr_jax import enums
from rlvr_jax.evaluation import sample_store
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


def read(
  path: str | os.PathLike,
) -> tuple[list[Task], list[base.Transcript]]:
  """The tasks and transcripts of a file's samples, for rewards to read.

  A last line that is not whole is left out.

  Raises:
    ValueError: it holds no samples with their tasks.
    OSError: it cannot be read.
  """
  tasks, out = [], []
  with pathlib.Path(path).open('rb') as f:
    head = sample_store.read_object(f.readline()) or {}
    known = [Task(**t) for t in head.get('tasks', ())]
    if not known:
      raise ValueError(
        f'{path} holds no samples with their tasks: scripts/evaluate.py writes '
        'samples-<step>-<hash>.jsonl beside a run.'
      )
    config = head['settings'].get('config', {})
    values = {k: config.get(f'verifier.{k}') for k in extract.Rules._fields}
    rules = extract.RULES._replace(
      **{k: v for k, v in values.items() if v is not None}
    )
    for r in filter(None, map(sample_store.read_object, f)):
      signals = None
      if r['signals'] is not None:
        number = {k: x for k, x in r['signals'].items() if x is not None}
        lost = dict(entropy=math.nan, self_certainty=math.nan)
        lost |= dict(answer_probability=None, answer_gap=None)
        signals = base.Signals(**(lost | number))
      tasks.append(known[r['task']])
      out.append(
        base.Transcript(
          r['completion'],
          r['tokens'],
          enums.Stop[r['stop']],
          enums.Verdict[r['verdict']],
          signals,
          kinds=tuple(r['kinds']),
          fallback=r['fallback'],
          timed_out=r['timed_out'],
          rules=rules,
        )
      )
  return tasks, out

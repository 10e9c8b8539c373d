"""Makes a file of pairs for env=pairs(...) from samples of a model.

    python scripts/pairs.py --workdir=DIR --out=FILE.jsonl [--score=reward]
        [--which=all] [--margin=0] [--cap=0] [--answers]
    python scripts/pairs.py --samples=DIR/samples-0-HASH.jsonl --out=FILE.jsonl
        [--score=outcome] ...

Pairs are of completions of one prompt in one step; the one with the higher
score is chosen: `ops.preference.pairs`, which also pairs the rows of a step
online. Ties and equal texts make no pair. Left out, and counted, are
completions that the limit cut, that are empty or no valid text (as rows of a
file they would be others than those sampled), and those without a score.

--workdir takes the rollouts of a run, which must log them:
--config.log_transcripts=1000000. A score is the reward, or a part of it.

--samples takes the samples that scripts/evaluate.py keeps beside a run: of the
model before training with --step=0, of the training tasks with
--config.eval.split=train. A score is any reward, by its spec; one that reads
the policy's probabilities, such as answer_gap, needs an evaluation with
--config.eval.signals=True, or eval.branch.
"""

import argparse
import collections
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlvr_jax import registry, storage
from rlvr_jax.evaluation import sample_transcripts
from rlvr_jax.io.encoding import MARK
from rlvr_jax.reporting import run_writer
from rlvr_jax.rewards import base


class Sample(NamedTuple):
  """A completion of a prompt, and its score; None if it has none."""

  id: str  # of the task
  step: int
  prompt: Any  # text, or messages
  answer: str  # gold, '' for none
  text: str
  ended: bool  # False: cut by the limit
  score: float | None


def of_run(records: Iterable[dict], score: str) -> list[Sample]:
  """The training rows of rollouts.jsonl.

  Args:
    score: 'reward', 'verdict' (1 for CORRECT), or a part of the reward.

  Raises:
    ValueError: the rows are dialogues.
  """
  out = []
  for r in records:
    if r.get('split') != 'train':
      continue
    if 'turns' in r:
      raise ValueError('The run has dialogues: pairs are of single answers.')
    parts = r.get('parts', {})
    # A refused row has the reward 0 and no part.
    value = r['reward'] if score == 'reward' and parts else parts.get(score)
    if score == 'verdict':
      value = float(r['verdict'] == 'CORRECT')
    # NaN and infinities are words there.
    number = isinstance(value, int | float) and math.isfinite(value)
    out.append(
      Sample(
        r['id'],
        r['step'],
        r.get('messages', r['question']),
        r['answer'],
        r['completion'],
        r['stop'] == 'END',
        value if number else None,
      )
    )
  return out


def of_evaluation(path: str, score: str) -> list[Sample]:
  """The samples of a file of scripts/evaluate.py.

  Args:
    score: spec of a reward.

  Raises:
    ValueError: no such reward or file, samples lack what the reward reads, or
      are dialogues.
  """
  with registry.naming('--score', score):
    reward = base.build([score], [1.0])
  tasks, transcripts = sample_transcripts.read(path)
  if any(t.kinds for t in transcripts):
    raise ValueError(f'{path} holds dialogues: pairs are of single answers.')
  results = reward(tasks, transcripts)
  return [
    Sample(
      task.id,
      0,
      task.data.get('messages', task.question),
      task.answer if task.verifier == 'math' else '',
      t.completion,
      not t.cut,
      None if r.refused else r.value,
    )
    for task, t, r in zip(tasks, transcripts, results, strict=True)
  ]


def usable(sample: Sample) -> bool:
  """Whether its text, as a row of a file, is what was sampled."""
  text = sample.text
  return sample.ended and bool(text.strip()) and MARK not in text


def rows(
  samples: Iterable[Sample], select: Callable, *, cap: int, answers: bool
) -> tuple[list[dict[str, Any]], collections.Counter]:
  """Rows of the file, and counts of what was read and left out.

  Args:
    select: which pairs of a group, a function of kind 'pairs'.
    cap: most pairs of a prompt over all steps, those with the largest margins;
      0: all.
    answers: whether rows have the gold answer.
  """
  groups: dict[tuple, dict[str, Sample]] = {}
  counts: collections.Counter = collections.Counter()
  for s in samples:
    counts['completions'] += 1
    if s.score is None:
      counts['without a score'] += 1
    elif not usable(s):
      counts['cut, empty or no text'] += 1
    else:
      # Equal texts make no pair: the first counts.
      groups.setdefault((s.id, s.step), {}).setdefault(s.text, s)
  size = max(map(len, groups.values()), default=0)
  by_task: dict[str, dict] = {}
  for (name, _), group in groups.items():
    members = list(group.values())
    found = _pairs(members, select, size)
    counts['groups without a pair'] += not found
    # The same texts may meet in several steps.
    seen = by_task.setdefault(name, {})
    for a, b in found:
      seen.setdefault((a.text, b.text), (a, b))
  out = []
  for name, seen in by_task.items():
    best = sorted(seen.values(), key=lambda pair: pair[1].score - pair[0].score)
    for a, b in best[: cap or None]:
      out.append(
        {'prompt': a.prompt, 'chosen': a.text, 'rejected': b.text}
        | {'score_chosen': a.score, 'score_rejected': b.score, 'id': name}
        | ({'answer': a.answer} if answers and a.answer else {})
      )
  return out, counts


def _pairs(
  members: Sequence[Sample], select: Callable, size: int
) -> list[tuple[Sample, Sample]]:
  """(chosen, rejected) of a group, which is padded to `size` members."""
  rank = np.zeros(size, np.float32)  # as the scores of a step
  rank[: len(members)] = [s.score for s in members]
  which = np.asarray(select(rank, np.arange(size) < len(members)))
  return [(members[i], members[j]) for i, j in np.argwhere(which)]


def main(argv: Sequence[str]) -> int:
  """Writes the file; 0, or 1 with a message."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument('--workdir', metavar='DIR', help='of a run')
  source.add_argument('--samples', metavar='FILE', help='of an evaluation')
  parser.add_argument('--out', required=True, metavar='FILE.jsonl')
  parser.add_argument(
    '--score',
    metavar='NAME',
    help="of a run: 'reward', 'verdict' or a part of the reward, such as "
    "self_certainty; of an evaluation: a reward, such as 'answer_gap'",
  )
  parser.add_argument('--which', default='all', choices=('all', 'best_worst'))
  parser.add_argument(
    '--margin', type=float, default=0.0, help='least difference of the scores'
  )
  parser.add_argument(
    '--cap', type=int, default=0, metavar='N', help='pairs a prompt; 0: all'
  )
  parser.add_argument(
    '--answers',
    action='store_true',
    help='with the gold answers, where they are of the verifier of maths',
  )
  flags = parser.parse_args(argv)
  try:
    out = storage.local(flags.out, '--out')
    made, counts = _make(flags)
  except (ValueError, OSError) as e:
    print(e, file=sys.stderr)
    return 1
  out.parent.mkdir(parents=True, exist_ok=True)
  text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in made)
  out.write_text(text, 'utf-8')
  prompts = len({row['id'] for row in made})
  print(f'{len(made)} pairs of {prompts} prompts in {out}')
  print(', '.join(f'{n} {name}' for name, n in counts.items()))
  return 0


def _make(flags) -> tuple[list[dict[str, Any]], collections.Counter]:
  """`rows` of the command line; ValueError if there is none."""
  if not 0 <= flags.margin < math.inf or flags.cap < 0:
    raise ValueError(
      f'--margin={flags.margin} and --cap={flags.cap} must be 0 or more.'
    )
  if flags.samples:
    path = storage.local(flags.samples, '--samples')
    samples = of_evaluation(path, flags.score or 'outcome')
    more = '--config.eval.samples=64'
  else:
    path = storage.folder(flags.workdir) / run_writer.ROLLOUTS
    samples = of_run(_rollouts(path, score := flags.score or 'reward'), score)
    more = '--config.log_transcripts=1000000'
  options = {'margin': flags.margin}
  if flags.which == 'all':
    options['cap'] = flags.cap
  select = registry.get('pairs', registry.spec(flags.which, **options))
  made, counts = rows(samples, select, cap=flags.cap, answers=flags.answers)
  if not made:
    raise ValueError(
      f'{path} has no pair: {dict(counts)}. Take more rows of each group '
      f'({more}), lower --margin, or take another --score.'
    )
  return made, counts


def _rollouts(path: pathlib.Path, score: str) -> list[dict]:
  """The records of a run; ValueError if none of them has the score."""
  records = list(run_writer.read(path))
  names = {n for r in records for n in r.get('parts', ())}
  if score not in {'reward', 'verdict', *names}:
    raise ValueError(
      f'--score={registry.show(score)}.'
      f'{registry.nearest(score, names)} {path} has: reward, verdict, '
      f'{", ".join(sorted(names))}.'
    )
  return records


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

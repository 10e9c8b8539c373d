"""Makes a file of pairs for env=pairs(...) from the rollouts of a run.

    python scripts/pairs.py --workdir=DIR --out=FILE.jsonl [--score=reward]
        [--which=all] [--margin=0] [--cap=0] [--answers]

Pairs are of completions of one prompt in one step; the one with the higher
score is chosen. Ties and equal texts make no pair. Left out, and counted, are
completions that the limit cut, that are empty or no valid text (as rows of a
file they would be others than those sampled), and those without a score.

The run must log its rollouts: --config.log_transcripts=1000000. Samples of a
model as it is come from a run with --config.optimizer.learning_rate=0.
"""

import argparse
import collections
import itertools
import json
import math
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rlvr_jax import registry
from rlvr_jax.reporting import run_writer

BROKEN = '\ufffd'  # in place of a token without text


def score_of(record: dict, name: str) -> float | None:
  """The score of a record of rollouts.jsonl; None if it has none.

  Args:
    name: 'reward', 'verdict' (1 for CORRECT), or a part of the reward.
  """
  parts = record.get('parts', {})
  if name == 'verdict':
    return float(record['verdict'] == 'CORRECT')
  # A refused row has the reward 0 and no part.
  value = record['reward'] if name == 'reward' and parts else parts.get(name)
  return value if value is None or math.isfinite(value) else None


def usable(record: dict) -> bool:
  """Whether its text, as a row of a file, is what was sampled."""
  text = record['completion']
  return record['stop'] == 'END' and bool(text.strip()) and BROKEN not in text


def of_group(
  scored: Sequence[tuple[float, str]], which: str, margin: float, cap: int
) -> list[tuple[tuple[float, str], tuple[float, str]]]:
  """((score, text) chosen, rejected) of one prompt, largest margin first.

  Args:
    scored: (score, text) of its completions.
    which: 'all' pairs, or 'best_worst': a best one against a worst one.
    margin: least difference of the scores; it must be above 0 in any case.
    cap: most pairs, those with the largest margins; 0: all.
  """
  ordered = sorted(dict.fromkeys(scored), key=lambda x: -x[0])
  if which == 'best_worst':
    ordered = ordered[:1] + ordered[1:][-1:]
  found = [
    (a, b)
    for a, b in itertools.combinations(ordered, 2)
    if a[0] > b[0] and a[0] - b[0] >= margin and a[1] != b[1]
  ]
  found.sort(key=lambda pair: pair[1][0] - pair[0][0])
  return found[: cap or None]


def rows(
  records: Iterable[dict],
  *,
  score: str,
  which: str,
  margin: float,
  cap: int,
  answers: bool,
) -> tuple[list[dict[str, Any]], collections.Counter]:
  """Rows of the file, and counts of what was read and left out.

  The cap is one per prompt, over all steps.
  """
  groups: dict[tuple, list[tuple[float, str]]] = {}
  first: dict[str, dict] = {}
  counts: collections.Counter = collections.Counter()
  for record in records:
    if record.get('split') != 'train':
      continue
    counts['completions'] += 1
    value = score_of(record, score)
    if value is None:
      counts['without a score'] += 1
    elif not usable(record):
      counts['cut, empty or no text'] += 1
    else:
      key = record['id'], record['step']
      groups.setdefault(key, []).append((value, record['completion']))
      first.setdefault(record['id'], record)
  by_task: dict[str, dict] = {}
  for (name, _), scored in groups.items():
    pairs = of_group(scored, which, margin, 0)
    counts['groups without a pair'] += not pairs
    # The same texts may meet in several steps.
    seen = by_task.setdefault(name, {})
    for a, b in pairs:
      seen.setdefault((a[1], b[1]), (a, b))
  out = []
  for name, seen in by_task.items():
    best = sorted(seen.values(), key=lambda pair: pair[1][0] - pair[0][0])
    for a, b in best[: cap or None]:
      record = first[name]
      prompt = record.get('messages', record['question'])
      out.append(
        {'prompt': prompt, 'chosen': a[1], 'rejected': b[1]}
        | {'score_chosen': a[0], 'score_rejected': b[0], 'id': name}
        | ({'answer': record['answer']} if answers else {})
      )
  return out, counts


def main(argv: Sequence[str]) -> int:
  """Writes the file; 0, or 1 with a message."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--out', required=True, metavar='FILE.jsonl')
  parser.add_argument(
    '--score',
    default='reward',
    metavar='NAME',
    help="'reward', 'verdict' or a part of the reward, such as self_certainty",
  )
  parser.add_argument('--which', default='all', choices=('all', 'best_worst'))
  parser.add_argument('--margin', type=float, default=0.0)
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
    made, counts = _make(flags)
  except ValueError as e:
    print(e, file=sys.stderr)
    return 1
  out = pathlib.Path(flags.out)
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
  path = pathlib.Path(flags.workdir) / run_writer.ROLLOUTS
  records = list(run_writer.read(path))
  names = {n for r in records for n in r.get('parts', ())}
  if flags.score not in {'reward', 'verdict', *names}:
    raise ValueError(
      f'--score={registry.show(flags.score)}.'
      f'{registry.nearest(flags.score, names)} {path} has: reward, verdict, '
      f'{", ".join(sorted(names))}.'
    )
  made, counts = rows(
    records,
    score=flags.score,
    which=flags.which,
    margin=flags.margin,
    cap=flags.cap,
    answers=flags.answers,
  )
  if not made:
    raise ValueError(
      f'{path} has no pair: {dict(counts)}. Log more rows of each group '
      '(--config.log_transcripts=1000000), lower --margin, or take another '
      '--score.'
    )
  return made, counts


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

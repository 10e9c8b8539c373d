"""Records of steps to medians, ratios and tables: pure functions.

A run is one process of one side: {'side', 'turn', 'steps', 'failed',
'gemm_gflops_before', 'gemm_gflops_after', 'other_cores'}; `steps` are the
records of common.recorder.
"""

import statistics
from collections.abc import Iterable, Sequence


def spread(values: Iterable[float]) -> list[float]:
  """[median, min, max]; ValueError without values."""
  values = list(values)
  if not values:
    raise ValueError('No values to summarise.')
  return [statistics.median(values), min(values), max(values)]


def measured(
  runs: Sequence[dict], side: str, case: str, turn: int | None = None
) -> list[dict]:
  """A side's steps after warm-up, in processes that did not fail."""
  return [
    x
    for r in runs
    if r['side'] == side and not r['failed'] and turn in (None, r['turn'])
    for x in r['steps']
    if x['case'] == case and not x['warmup']
  ]


def summarise(runs: list[dict]) -> dict:
  """{case: {side: {figure: [median, min, max]}}}, and `ratio` to ours.

  Steps of all turns are pooled. `ratio` is the peer's median step time over
  ours (above 1: we are faster), with the extremes of the same ratio taken
  turn by turn; `token_ratio` compares new tokens per second (ours / peer),
  which is what counts when rows stop by themselves.
  """
  cases = dict.fromkeys(x['case'] for r in runs for x in r['steps'])
  sides = dict.fromkeys(r['side'] for r in runs)
  result = {}
  for case in cases:
    result[case] = {}
    for side in sides:
      steps = measured(runs, side, case)
      if not steps:
        continue
      row = {
        k: spread(x[k] for x in steps)
        for k in ('step_s', 'rollout_s', 'train_s', 'tokens', 'longest')
      }
      row['other_s'] = spread(
        x['step_s'] - x['rollout_s'] - x['train_s'] for x in steps
      )
      row['tokens_per_s'] = spread(x['tokens'] / x['step_s'] for x in steps)
      row['cpu_user_s'] = spread(x['cpu_user_s'] for x in steps)
      row['cpu_system_s'] = spread(x['cpu_system_s'] for x in steps)
      for k in ('peak_rss_gib_steady', 'peak_rss_gib_run'):
        row[k] = max(x[k] for x in steps)
      row['steps'] = len(steps)
      result[case][side] = row
    for side in [s for s in result[case] if s != 'ours']:
      if 'ours' in result[case]:
        result[case][side]['ratio'] = ratio(runs, side, case, 'step_s')
        result[case][side]['token_ratio'] = ratio(runs, side, case, 'tokens')
  return result


def ratio(runs: Sequence[dict], peer: str, case: str, by: str) -> list[float]:
  """[ratio of medians, min over turns, max over turns]; > 1: we are faster.

  by: 'step_s' for peer seconds / our seconds, 'tokens' for our new tokens
  per second / the peer's.
  """

  def one(turn):
    ours, theirs = (measured(runs, side, case, turn) for side in ('ours', peer))
    if not ours or not theirs:
      return None
    if by == 'step_s':
      figure = lambda steps: statistics.median(x['step_s'] for x in steps)
      return figure(theirs) / figure(ours)
    figure = lambda steps: statistics.median(
      x['tokens'] / x['step_s'] for x in steps
    )
    return figure(ours) / figure(theirs)

  turns = [one(t) for t in sorted({r['turn'] for r in runs})]
  known = [t for t in turns if t is not None]
  whole = one(None)
  return [whole, min(known or [whole]), max(known or [whole])]


def text_table(rows: list[list[str]]) -> str:
  """Columns padded to their widest cell: the first left, others right."""
  widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
  return '\n'.join(
    '  '.join(
      c.ljust(w) if i == 0 else c.rjust(w)
      for i, (c, w) in enumerate(zip(r, widths))
    ).rstrip()
    for r in rows
  )


def show(value: list[float], digits: int = 1) -> str:
  """'52.5 [51.4-54.7]'."""
  median, low, high = (f'{x:.{digits}f}' for x in value)
  return f'{median} [{low}-{high}]'


def report(runs: list[dict]) -> str:
  """The tables, the ratios, and the sentence of `quiet`, as text."""
  blocks = []
  for case, sides in summarise(runs).items():
    head = ['', 'step s', 'rollout s', 'train s', 'tok/s', 'tokens']
    head += ['cpu user s', 'cpu sys s', 'GiB steady', 'GiB run', 'steps']
    rows = [head]
    for side, x in sides.items():
      rows.append(
        [
          side,
          show(x['step_s']),
          *(f'{x[k][0]:.1f}' for k in ('rollout_s', 'train_s')),
          *(f'{x[k][0]:.0f}' for k in ('tokens_per_s', 'tokens')),
          *(f'{x[k][0]:.1f}' for k in ('cpu_user_s', 'cpu_system_s')),
          *(f'{x[k]:.1f}' for k in ('peak_rss_gib_steady', 'peak_rss_gib_run')),
          str(x['steps']),
        ]
      )
    lines = [case, text_table(rows)]
    for side, x in sides.items():
      if 'ratio' in x:
        lines.append(
          f'{side} takes {show(x["ratio"], 2)} times our time; '
          f'we make {show(x["token_ratio"], 2)} times its tokens per second.'
        )
    blocks.append('\n'.join(lines))
  blocks.append(quiet(runs))
  blocks += [f'{r["side"]}: {r["failed"]}' for r in runs if r['failed']]
  return '\n\n'.join(blocks)


def quiet(runs: list[dict]) -> str:
  """A sentence on whether the machine was quiet enough to compare sides.

  The evidence: matrix products before and after a process, and `other_cores`,
  the mean number of cores that other processes used meanwhile. It matters,
  because torch's threads wait by spinning: a busy machine slows TRL most.
  """
  ends = ('gemm_gflops_before', 'gemm_gflops_after')
  rates = [r[k][1] for r in runs for k in ends if k in r]
  if not rates:
    return 'Nothing was run.'
  others = [r['other_cores'] for r in runs if r.get('other_cores') is not None]
  low, high, other = min(rates), max(rates), max(others, default=0.0)
  text = (
    f'GEMM before and after: {low:.0f} to {high:.0f} GFLOP/s; other processes '
    f'used up to {other:.2f} cores.'
  )
  if low < 0.8 * high or other > 0.2:
    text += ' THE MACHINE WAS BUSY: do not quote these figures, repeat the run.'
  return text

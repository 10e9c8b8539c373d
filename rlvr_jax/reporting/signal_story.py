"""Is the outcome too rare, heard or private? Read off the map's points."""

import math
from typing import NamedTuple

from rlvr_jax.reporting.signal_lines import PASS_RATE, Cell, Map, Point

RARE, HEARD, PRIVATE, QUIET = 'too rare', 'heard', 'private', 'quiet'


class Story(NamedTuple):
  """Where one batch hears a signal.

  Attributes:
    states: of each cell of the map; None where nothing is known.
      heard: at most a batch of rollouts is needed.
      too rare: more are needed, and the pass rate is below `heard_from`; where
        no cell is heard, at most that of the loudest cell, and a batch of one
        problem alone would not be heard either.
      private: more are needed at a higher pass rate, although a problem is
        heard on its own: the problems agree less than half as much as they did
        at some lower pass rate. A batch has to be outside the interval.
      quiet: more are needed for another reason.
    heard_from: pass rate where the line through the cells, in log-odds and
      logarithms of rollouts, first falls to a batch; NaN if it does not.
    private_from: lowest pass rate of a private cell; NaN without one.
  """

  states: list[str | None]
  heard_from: float
  private_from: float

  def has(self, state: str) -> bool:
    return state in self.states


def read(drawn: Map, signal: str) -> Story:
  """The `Story` of a signal."""
  batch = drawn.batch
  known: list[tuple[float, Point, int]] = sorted(
    (
      (c.p, c.points[signal], i)
      for i, c in enumerate(drawn.cells)
      if signal in c.points and not math.isnan(c.points[signal].n)
    ),
    key=lambda k: k[0],
  )
  states: list[str | None] = [None] * len(drawn.cells)
  if not known or math.isnan(batch):
    return Story(states, math.nan, math.nan)
  heard = [k for k, (_, f, _) in enumerate(known) if f.n <= batch]
  loudest = min(range(len(known)), key=lambda k: known[k][1].n)
  turn = heard[0] if heard else loudest
  private = math.nan
  for k, (p, f, i) in enumerate(known):
    before = [g.omega for q, g, _ in known[:k] if q < p]
    agreed = max((w for w in before if math.isfinite(w)), default=math.nan)
    if f.n <= batch:
      states[i] = HEARD
    elif not f.low <= batch and not f.alone > batch and f.omega < agreed / 2:
      states[i] = PRIVATE
      private = p if math.isnan(private) else private
    elif k < turn if heard else k <= turn and f.alone > batch:
      states[i] = RARE
    else:
      states[i] = QUIET
  start = math.nan
  if turn and heard and states[known[turn - 1][2]] == RARE:
    start = _crossing(known[turn - 1], known[turn], batch)
  return Story(states, start, private)


def _crossing(below, above, batch) -> float:
  """The pass rate between two cells at which `batch` rollouts are enough."""
  logit = lambda p: math.log(p / (1 - p))
  clip = lambda p: min(max(p, 1e-4), 1 - 1e-4)
  a, b = logit(clip(below[0])), logit(clip(above[0]))
  if math.isinf(below[1].n) or above[1].n <= 0:
    share = 0.5
  else:
    fall = math.log(below[1].n / above[1].n)
    share = math.log(below[1].n / batch) / fall
  return 1 / (1 + math.exp(-(a + share * (b - a))))


def headline(drawn: Map, story: Story, name: str) -> str:
  """One sentence: what became of the signal with the pass rate."""
  name = name[:1].upper() + name[1:]
  words = [s for s in (RARE, HEARD, PRIVATE) if story.has(s)]
  if drawn.across != PASS_RATE:  # in the order in which they stand there
    first = lambda s: min(
      c.x for c, state in zip(drawn.cells, story.states) if state == s
    )
    words.sort(key=first)
  if not words:
    if not story.has(QUIET):
      return f'{name}: how much must be sampled?'
    return f'{name} is not heard in one batch'
  if words == [HEARD]:
    return f'{name} is heard: one batch is enough'
  if len(words) == 1:
    return f'{name} is {words[0]} for one batch'
  return f'{name} is first {", then ".join(words)}'


def cheapest(
  drawn: Map, signals: list[str], main: str
) -> tuple[str, float] | None:
  """(signal that needs the fewest rollouts, its share of those of `main`).

  The share is a geometric mean over the cells where both are known; signals
  that point away in most of them do not count. None without any.
  """
  shares: dict[str, float] = {}
  for s in signals:
    both = [
      (c.points[s], c.points[main])
      for c in drawn.cells
      if s in c.points and main in c.points
    ]
    both = [
      (f, g) for f, g in both if 0 < f.n < math.inf and 0 < g.n < math.inf
    ]
    if both and 2 * sum(f.root > 0 for f, _ in both) > len(both):
      logs = [math.log(f.n / g.n) for f, g in both]
      shares[s] = math.exp(sum(logs) / len(logs))
  if not shares:
    return None
  best = min(shares, key=shares.__getitem__)
  return best, shares[best]


def percent(p: float) -> str:
  """.0523 -> '5%', .0052 -> '0.5%'."""
  return f'{100 * p:.2g}%' if p < 0.995 else f'{100 * p:.4g}%'


def rollouts(n: float) -> str:
  """1951.2 -> '1,950', inf -> 'not found', NaN -> 'n/a'."""
  if math.isnan(n):
    return 'n/a'
  if math.isinf(n):
    return 'not found'
  return f'{float(f"{n:.3g}"):,.0f}' if n >= 10 else f'{n:.2g}'


def of_cell(cell: Cell, signal: str, state: str | None, batch: float) -> str:
  """What one checkpoint's number means; '' if nothing is known."""
  f = cell.points.get(signal)
  if f is None or state is None:
    return ''
  needs = (
    'No number of rollouts was found at which a batch is louder than its noise.'
    if math.isinf(f.n)
    else f'A batch needs about {rollouts(f.n)} rollouts until its gradient is '
    f'as loud as its noise; this run has {rollouts(batch)}.'
  )
  why = {
    RARE: 'Successes are too rare for a batch of this size: raise the pass rate '
    'first (easier problems, imitation, a denser reward), or sample more.',
    HEARD: 'So the outcome reward is heard.',
    PRIVATE: 'Problems are loud one by one, but no longer agree on what to '
    'change: a larger batch or a signal that is shared would help, more '
    'samples of the same problems would not.',
    QUIET: 'Neither rare successes nor lost agreement alone explain it.',
  }
  return f'{needs} {why[state]}'

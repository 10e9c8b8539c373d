"""Was there signal? The panel of a page that says so, and what would help.

Outcome reward is first too rare, then heard, then private: at first nearly all
groups fail; then the gradient of a batch is more signal than noise; later
groups still differ, but problems no longer agree on what to change.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax.reporting import learning_curves, pages, plots, signal_window
from rlvr_jax.reporting.run_reader import Group
from rlvr_jax.reporting.signal_window import Estimate, Steps, noise_scale

_POINTS = 200  # windows of a curve at most
_RANGE = 100.0  # the chart ends at this multiple of the batch and its inverse
_SHARES = (
  ('frac_groups_all_fail', 'all fail'),
  ('frac_groups_all_pass', 'all pass'),
  ('signal/informative_groups', 'informative'),
)


class Window(NamedTuple):
  """The steps (first, last] of a curve's point."""

  first: int
  last: int
  steps: Steps
  estimate: Estimate


class Course(NamedTuple):
  """What became of the signal in the runs of a config.

  Attributes:
    state: now: 'heard', 'too rare', 'private' or 'unknown'.
    sentence: says it, with what would help.
    heard: the first window that was heard, by its whole band; None: none.
    private: the first one after the last heard one that was private.
    windows: those of the curve, in order.
  """

  state: str
  sentence: str
  heard: Window | None
  private: Window | None
  windows: list[Window]


def section(groups: Sequence[Group]) -> dict[str, list]:
  """{sentences, figures} of the panel; empty lists for runs without it."""
  courses = [(g, course(g)) for g in groups]
  found = [(i, g, c) for i, (g, c) in enumerate(courses) if c is not None]
  if not found:
    return {'sentences': [], 'figures': []}
  several = len(groups) > 1
  sentences = [
    f'{g.label}: {c.sentence}' if several else c.sentence for _, g, c in found
  ]
  return {
    'sentences': sentences,
    'figures': [
      *_shares([(i, g) for i, g, _ in found], several),
      _scale(found),
    ],
  }


def course(group: Group) -> Course | None:
  """The windows of a config's runs and what they say; None without metrics.

  A window is a twentieth of the run, at least 20 steps, and ends at its step;
  the first ones are shorter. Its steps are those of all seeds: sums are pooled.
  """
  steps = signal_window.read(group.runs)
  if steps is None:
    return None
  first, last = int(steps.step.min()), int(steps.step.max())
  width = max(20, (last - first + 1) // 20)
  start = min(first + signal_window.ENOUGH - 1, last)
  ends = np.unique(np.linspace(start, last, _POINTS).round().astype(int))
  windows = []
  for end in ends:
    part = steps.between(end - width + 1, end)
    begin = max(first, int(end) - width + 1)
    windows.append(Window(begin, int(end), part, signal_window.estimate(part)))
  config = group.runs[0].config
  states = [_state(w, config) for w in windows]
  heard = [i for i, s in enumerate(states) if s == 'heard']
  private = [
    i
    for i, s in enumerate(states)
    if heard and i > heard[-1] and s == 'private'
  ]
  at = lambda found: windows[found[0]] if found else None
  return Course(
    states[-1],
    _sentence(windows, states, at(heard), config),
    at(heard),
    at(private),
    windows,
  )


def _state(w: Window, config) -> str:
  """See `Course.state`. The whole band decides, not the estimate.

  Not heard is too rare where dead groups outnumber the informative ones, of
  those that fail or pass as a whole: what is rare is a group that differs.
  """
  e = w.estimate
  if e.low >= 0.5:
    return 'heard'
  if not e.high < 0.5:
    return 'unknown'
  informative, fail, right = _kinds(w, config)
  return 'too rare' if max(fail, right) > informative else 'private'


def _rewarded(config) -> bool:
  """Whether the gradient is that of a reward, and not of imitation alone."""
  use = config.get('algo.distill', '')
  taught = use.startswith('loss') or (
    use.startswith('advantage') and 'outcome' not in use
  )
  return config.get('method', 'rl') == 'rl' and not taught


def _kinds(w: Window, config) -> tuple[float, float, float]:
  """Mean shares of groups: informative, and without spread: failed, passed.

  With shaped rewards a failed group may be informative: it counts as that.
  Without rewards (sft, a teacher alone) the share of live groups is all that is
  known.
  """
  s = w.steps
  if not (_rewarded(config) and np.isfinite(s.informative).any()):
    return float(s.live.mean() / s.groups), 0.0, 0.0
  informative = float(np.nanmean(s.informative))
  fail, right = (
    min(float(np.nanmean(x)), 1 - informative) if np.isfinite(x).any() else 0.0
    for x in (s.all_fail, s.all_pass)
  )
  return informative, fail, right


def _sentence(windows, states, heard, config) -> str:
  """What `Course.sentence` is."""
  now, state = windows[-1], states[-1]
  e, batch = now.estimate, now.steps.rollouts
  where = f'over steps {now.first} to {now.last}'
  informative, fail, right = _kinds(now, config)
  if not _rewarded(config):
    verdict = {
      'heard': 'more signal than noise',
      'unknown': f'not sure to be either: {_unknown(now, config)}',
    }.get(state, 'more noise than signal; a larger batch would help')
    return (
      f'Imitation, without a reward to hear. The gradient is {verdict}: {where} '
      f'{_measured(e, batch)}.'
    )
  if state == 'unknown':
    return f'Not known: {_unknown(now, config)}.' + _carried(now)
  if state == 'heard':
    now_share = min(e.share, 1.0)
    out = (
      f'Heard: {where} a batch is more signal than noise; {_measured(e, batch)}.'
      f' Its gradient is {100 * now_share:.0f} % signal; with twice the batch '
      f'it would be {100 * 2 * now_share / (1 + now_share):.0f} %. The reward '
      'works here.'
    )
  elif state == 'too rare':
    what, rare = ('pass', 'failures') if right > fail else ('fail', 'successes')
    cure = (
      'harder tasks, or an end of the training'
      if right > fail
      else 'more samples of each problem, easier tasks first, resampling until '
      'groups differ (max_resample_batches), or a denser signal: rewards for '
      'steps or similarity, or imitation of solutions'
    )
    out = (
      f'Too rare: {where} {100 * max(fail, right):.0f} % of the groups {what} '
      f'as a whole and {100 * informative:.0f} % tell their samples apart; '
      f'{_measured(e, batch)}. {rare.capitalize()} are seen, if at all, in too '
      f'few groups to be heard. What would help: {cure}.'
    )
  else:
    before = (
      f'It was heard up to step {_last(windows, states).last}.'
      if heard is not None
      else 'It was never heard before, so the batch may be too small from the '
      'start.'
    )
    out = (
      f'Private: {where} {100 * informative:.0f} % of the groups tell their '
      'samples apart, but their gradients do not add up: problems disagree on '
      f'what to change; {_measured(e, batch)}. {before} What would help: a '
      'larger batch, other tasks that share something new to learn, or an end '
      'of the training; more samples of each problem would not.'
    )
  return out + _carried(now) + _more_terms(config)


def _last(windows, states) -> Window:
  """The last heard window."""
  return windows[max(i for i, s in enumerate(states) if s == 'heard')]


def _measured(e: Estimate, batch: int) -> str:
  """The noise scale with its band, against the batch."""
  least, most = noise_scale(e.high, batch), noise_scale(e.low, batch)
  if np.isnan(e.share) or np.isnan(e.low):
    return (
      f'{_count(e.live)} groups of a step have a gradient, which leaves a noise '
      f'scale of at least {_count(least)} rollouts, and the batch has {batch}'
    )
  band = (
    f'{_count(least)} or more'
    if np.isinf(most)
    else f'{_count(least)} to {_count(most)}'
  )
  scale = noise_scale(e.share, batch)
  point = 'not separable from infinity' if np.isinf(scale) else _count(scale)
  return f'noise scale {point} rollouts (95 % band: {band}), batch {batch}'


def _unknown(w: Window, config) -> str:
  """Why the state of a window is not known, and the remedy."""
  e, batch = w.estimate, w.steps.rollouts
  if w.steps.groups == 1:
    return 'a batch of one group says nothing about agreement between problems'
  if not e.known and e.live >= 2:
    size = config.get('groups_per_micro_batch', 'unknown')
    return (
      'the live groups of each step are in one micro-batch, and this needs two '
      'micro-batches: set groups_per_micro_batch lower (it is '
      f'{size}; on a mesh it is at least the number of batch shards)'
    )
  if e.known < signal_window.ENOUGH:
    return (
      f'not enough steps to tell: of the last {e.steps} steps {e.known} have '
      'groups with gradient in two micro-batches, and '
      f'{signal_window.ENOUGH} are needed. A lower groups_per_micro_batch '
      'gives more'
    )
  return (
    f'not enough steps to tell whether a batch is more signal than noise; over '
    f'steps {w.first} to {w.last} {_measured(e, batch)}, which lies in the band'
  )


def _carried(w: Window) -> str:
  """A note where the reward tells something else than the verdict."""
  a = w.steps.agreement[np.isfinite(w.steps.agreement)]
  if not len(a) or a.mean() > 0.9:
    return ''
  return (
    f' The reward explains {100 * a.mean():.0f} % of the variance of '
    'correctness within groups: what is heard is the reward, not the outcome.'
  )


def _more_terms(config) -> str:
  """A note where the gradient is not of the reward alone."""
  terms = [
    name
    for name, on in (
      ('the KL penalty', config.get('algo.beta')),
      ('the entropy bonus', config.get('algo.entropy_coef')),
      ("a teacher's word", config.get('algo.distill')),
      ('the critic', str(config.get('algo.estimate', '')).startswith('gae')),
    )
    if on
  ]
  if not terms:
    return ''
  return f' The gradient contains {" and ".join(terms)} too.'


def _count(value: float | np.ndarray) -> str:
  """Two significant digits: 0.13, 4.2, 1,900."""
  x = float(value)
  if not np.isfinite(x):
    return 'infinite'
  if x == 0:
    return '0'
  digits = 1 - int(np.floor(np.log10(abs(x))))
  return f'{round(x, digits):,.{max(digits, 0)}f}'


def _shares(found, several) -> Iterator[pages.Figure]:
  """What kinds of groups there were: one chart, or one for each of several."""
  if not several:
    ((_, group),) = found
    lines = []
    for name, label in _SHARES:
      lines += learning_curves.curve(group, name, label, len(lines))
    charts = {'Groups': lines}
  else:
    charts = {
      f'Groups: {label}': [
        n for i, g in found for n in learning_curves.curve(g, name, g.label, i)
      ]
      for name, label in _SHARES
    }
  for title, lines in charts.items():
    if lines:
      yield pages.Figure(title, plots.chart(lines, percent=True))


def _scale(found) -> pages.Figure:
  """Noise scale against the batch, over the steps."""
  lines, notes, ends = [], [], []
  batches: dict[int, None] = {}
  for i, g, c in found:
    label = g.label if len(found) > 1 else 'noise scale'
    batch = c.windows[0].steps.rollouts
    x = np.array([w.last for w in c.windows])
    ends += [x[0], x[-1]]
    share, low, high = (
      np.array([getattr(w.estimate, k) for w in c.windows])
      for k in ('share', 'low', 'high')
    )
    # A side that is not known has no edge. The bound by live groups has.
    y, least, most = (
      np.clip(noise_scale(v, batch), batch / _RANGE, batch * _RANGE)
      for v in (share, high, low)
    )
    lines.append(plots.Line(label, x, y, least, most, color=i))
    batches[batch] = None
    for what, w, k in (('first heard', c.heard, 1), ('private', c.private, 2)):
      name = f'{label}: {what}' if len(found) > 1 else what
      if w is None:
        continue
      at = np.clip(
        noise_scale(w.estimate.share, batch), batch / _RANGE, batch * _RANGE
      )
      lines.append(
        plots.Line(
          f'{name}, step {w.last}',
          np.array([w.last]),
          np.array([float(at)]),
          color=i + k if len(found) == 1 else i,
        )
      )
    first = 'never, surely' if c.heard is None else f'step {c.heard.last}'
    gone = '' if c.private is None else f'; private from step {c.private.last}'
    notes.append(
      (f'{g.label}: ' if len(found) > 1 else '') + f'first heard {first}{gone}'
    )
  for batch in batches:
    x = np.array([min(ends), max(ends)])
    y = np.full(2, float(batch))
    lines.append(plots.Line(f'batch, {batch} rollouts', x, y, color=None))
  width = found[0][2].windows[-1].last - found[0][2].windows[-1].first + 1
  note = (
    '; '.join(notes) + f'. Windows of {width} steps that end at a step; band: '
    '95 %. Below the dotted line a batch is more signal than noise. The upper '
    'edge stands for everything that is not separable from infinity.'
  )
  return pages.Figure(
    'Noise scale against the batch',
    plots.chart(lines, log=True, unit='rollouts'),
    note[0].upper() + note[1:],
  )

"""The sentences and dates of the panel, on made up runs of each state."""

import numpy as np
import pytest

from rlvr_jax.reporting import plots, report, run_reader, signal_panel

CONFIG = {
  'seed': 0,
  'total_steps': 60,
  'train_batch_size': 16,
  'num_generations': 8,
  'groups_per_micro_batch': 4,
  'method': 'rl',
}


def lines(share, informative, *, all_pass=0.0, live=None, seed=0, noise=0.1):
  """Metrics of 60 steps with these shares of signal and of groups [60].

  All groups that can be are in pairs: cross is what `estimate` makes share of.
  """
  rng = np.random.default_rng(seed)
  share, informative = (np.broadcast_to(x, 60) for x in (share, informative))
  out = []
  for i in range(60):
    n = round(16 * float(informative[i])) if live is None else live
    full, rest = divmod(n, 4)
    pairs = float(n * n - full * 16 - rest**2)
    signal = float(share[i]) + noise * rng.normal()
    cross = signal * pairs / max(n * (n - 1), 1) * 15 / 16
    out.append(
      {
        'step': i + 1,
        'signal/norm_sq': 1.0 if n else 0.0,
        'signal/cross': cross if pairs else 'nan',
        'signal/pairs': pairs,
        'signal/live': float(n),
        'signal/informative_groups': float(informative[i]),
        'signal/agreement': 1.0,
        'frac_groups_all_fail': 1 - float(informative[i]) - all_pass,
        'frac_groups_all_pass': all_pass,
      }
    )
  return out


def group(metrics, **changes):
  config = CONFIG | changes
  run = lambda m, s: run_reader.Run(
    f'run{s}', config | {'seed': s}, '', '', m, [], [], [], []
  )
  many = metrics if isinstance(metrics[0], list) else [metrics]
  return run_reader.Group('label', [run(m, s) for s, m in enumerate(many)])


def test_heard():
  got = signal_panel.course(group(lines(0.75, 0.75)))
  assert got.state == 'heard'
  assert got.heard.last == 8
  assert got.private is None
  assert got.sentence.startswith('Heard: over steps 41 to 60')
  assert 'batch 128' in got.sentence
  assert got.windows[-1].estimate.share == pytest.approx(0.75, abs=0.08)


def test_a_teacher_alone_is_no_reward():
  metrics = lines(0.1, 0.375, live=16)
  alone = signal_panel.course(group(metrics, **{'algo.distill': 'loss'}))
  assert alone.state == 'private'  # and not too rare: all groups are live
  assert alone.sentence.startswith('Imitation, without a reward to hear.')
  both = signal_panel.course(group(metrics, **{'algo.distill': 'add'}))
  assert both.state == 'too rare'
  assert "contains a teacher's word too" in both.sentence


def test_too_rare():
  got = signal_panel.course(group(lines(0.1, 0.375)))
  assert (got.state, got.heard) == ('too rare', None)
  for words in (
    'Too rare',
    '62 % of the groups fail',
    'samples of each',
    'imit',
  ):
    assert words in got.sentence
  got = signal_panel.course(group(lines(0.1, 0.375, all_pass=0.6)))
  assert got.state == 'too rare'
  assert '60 % of the groups pass' in got.sentence
  assert 'harder tasks' in got.sentence


def test_all_groups_fail():
  """No gradient and no pair in any step: not heard all the same."""
  got = signal_panel.course(group(lines(0.0, 0.0)))
  assert got.state == 'too rare'
  assert '100 % of the groups fail' in got.sentence
  assert 'nan' not in got.sentence.lower()


def test_heard_then_private():
  share = np.r_[np.full(30, 0.8), np.full(30, 0.1)]
  got = signal_panel.course(group(lines(share, 0.8125)))
  assert got.state == 'private'
  assert got.heard.last == 8
  assert 36 <= got.private.last <= 55
  assert 'It was heard up to step' in got.sentence
  assert 'larger batch' in got.sentence


def test_never_heard_though_groups_differ():
  got = signal_panel.course(group(lines(0.1, 0.8125)))
  assert (got.state, got.private) == ('private', None)
  assert 'never heard before' in got.sentence


def test_not_enough_steps_to_tell():
  got = signal_panel.course(group(lines(0.5, 0.75, noise=0.6)))
  assert got.state == 'unknown'
  assert 'not enough steps to tell' in got.sentence
  got = signal_panel.course(group(lines(0.7, 0.75)[:6]))
  assert got.state == 'unknown'
  assert 'not enough steps to tell' in got.sentence


def test_seeds_pool_their_sums():
  """What most seeds cannot tell, six together can."""
  runs = [lines(0.65, 0.75, noise=0.6, seed=s) for s in range(6)]
  assert signal_panel.course(group(runs[1])).state == 'unknown'
  pooled = signal_panel.course(group(runs))
  assert pooled.state == 'heard'
  e = pooled.windows[-1].estimate
  assert e.steps == 120
  cross = [x for m in runs for x in m[40:]]
  ordered = 12 * 11 * 16 / 15
  by_hand = np.mean([x['signal/cross'] / x['signal/pairs'] for x in cross])
  assert e.share == pytest.approx(ordered * by_hand, rel=1e-9)


def test_one_micro_batch_says_what_to_set():
  metrics = [
    x | {'signal/cross': 'nan', 'signal/pairs': 0.0} for x in lines(0.7, 0.75)
  ]
  got = signal_panel.course(group(metrics, groups_per_micro_batch=16))
  assert got.state == 'unknown'
  assert 'needs two micro-batches: set groups_per_micro_batch' in got.sentence
  assert 'it is 16' in got.sentence


def test_notes_on_other_rewards_terms_and_methods():
  metrics = [x | {'signal/agreement': 0.04} for x in lines(0.75, 0.75)]
  got = signal_panel.course(group(metrics, **{'algo.beta': 0.1})).sentence
  assert 'explains 4 % of the variance' in got
  assert 'contains the KL penalty' in got
  metrics = [
    {k: v for k, v in x.items() if 'groups' not in k} for x in lines(0.75, 1.0)
  ]
  got = signal_panel.course(group(metrics, method='sft')).sentence
  assert got.startswith('Imitation')
  assert 'more signal than noise' in got


def test_the_page_has_the_panel_or_not(monkeypatch):
  drawn = []
  monkeypatch.setattr(
    plots, 'chart', lambda lines, **_: drawn.append(lines) or 'data:,'
  )
  new = group(lines(0.75, 0.75)).runs[0]
  text = report.html([new])
  assert '<h2>Was there signal?</h2>' in text
  assert 'Groups without signal' not in text
  scale = next(x for x in drawn if x[0].label == 'noise scale')
  assert [x.label for x in scale[1:]] == [
    'first heard, step 8',
    'batch, 128 rollouts',
  ]
  assert np.isfinite(scale[0].y).all()
  old = [{'step': s, 'reward': 1.0, 'grad_norm': 1.0} for s in range(1, 9)]
  old = new._replace(metrics=old)
  assert 'Was there signal' not in report.html([old])
  other = new._replace(config=new.config | {'num_generations': 4})
  text = report.html([new, other, old])
  assert text.count('Heard: over steps') == 2
  assert 'num_generations=4' in text
  report.html([new._replace(config={})])
  monkeypatch.undo()
  for found in (lines(0.1, 0.8), lines(0.0, 0.0)):  # charts are really drawn
    assert 'data:image' in report.html([new._replace(metrics=found)])

"""Writes made-up signal maps: what a run of scripts/signal_map.py leaves."""

import json
import math
import pathlib

from rlvr_jax.reporting import run_writer

SIGNALS = {  # noise against the outcome's, cosine with the true gradient
  'outcome': (1, 1.0),
  'outcome|grpo': (1.05, 1.0),
  'outcome|psr': (0.8, 1.0),
  'outcome|nsr': (2.4, 0.98),
  'flip(reward=outcome, rate=0.3)': (5.5, 1.0),
  'format': (0.6, 0.9),
  'similarity|grpo': (0.5, 0.95),
  'majority': (0.9, -0.95),
  'self_certainty': (1.6, -0.8),
  'sft': (0.04, 0.9),
  'random': (math.inf, 0.0),
  'permuted(reward=outcome)': (math.inf, 0.0),
  'inverse(reward=outcome)': (1, -1.0),
  'constant(value=1.0)': (math.inf, math.nan),
}


def line(
  signal, *, p, n=1000.0, omega=0.2, cos=1.0, group=8, batch=256, **more
):
  """A line of signal.jsonl with a noise scale of `n` rollouts."""
  second = 1.0
  total = group * second / (n + group) if n < math.inf else -1e-3
  u = math.sqrt(batch / (batch + n)) if n < math.inf else 0.0
  within = total / omega if omega > 0 else 0.1
  snr1 = within / (second - within) if 0 < within < second else math.nan
  return {
    'signal': signal,
    'bin': 'all',
    'p': p,
    'p_se': 0.1 * p,
    'total': total,
    'total_se': 0.15 * abs(total),
    'within': within,
    'second': second,
    'snr1': snr1,
    'omega': omega,
    'omega_se': 0.02,
    'noise_scale': n,
    'log_noise_scale': math.log(n) if 0 < n < math.inf else math.nan,
    'log_noise_scale_se': 0.25 if n < math.inf else math.nan,
    'cos': cos,
    'cos_se': 0.03,
    'root': cos * u,
    'root_se': 0.03,
    'cos_within': cos,
    'largest': 0.12,
    'tokens': 31.5,
    'problems': 40,
    'reward': p,
    'theory_snr1': 1.1 * snr1,
    'settings': 'abcdef0123',
  } | more


def run(folder, steps, *, signals=SIGNALS, seed=0, config=None):
  """Writes a run: `steps` is {step: (pass rate, N of the outcome, omega)}."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  values = {
    'seed': seed,
    'model': {'name': 'tiny()'},
    'env': 'letters()',
    'train_batch_size': 32,
    'num_generations': 8,
    'total_steps': 1,
  } | (config or {})
  (folder / 'config.json').write_text(json.dumps(values))
  for step, (p, n, omega) in steps.items():
    for signal, (noise, cos) in signals.items():
      run_writer.append(
        folder / 'signal.jsonl',
        step,
        line(signal, p=p, n=noise * n, omega=omega, cos=cos),
      )
  return folder


def story(folder):
  """The runs of a map with all three states, as in a study."""
  name = lambda text: {'model': {'name': text}}
  return [
    run(folder / 'rare', {0: (0.009, 1951, 0.22)}, config=name('rare')),
    run(
      folder / 'hard',
      {
        0: (0.053, 254, 0.22),
        20: (0.28, 365, 0.08),
        40: (0.45, 3178, 0.008),
        100: (0.58, 1775, 0.016),
      },
      config=name('hard'),
    ),
    run(folder / 'reliable', {0: (0.77, 240, 0.075)}, config=name('reliable')),
  ]

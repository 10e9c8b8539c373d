"""Does a batch's gradient, as training computes it, have the SNR predicted?

`measure` predicts it from inner products of single rollouts, for advantages
times score vectors. Here groups of the same rollouts form batches whose
gradient `learner.gradients` computes, with the surrogate, the denominators of
the aggregate and the micro-batches of training.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import hosts, registry, storage, types
from rlvr_jax.evaluation import evaluate
from rlvr_jax.io import checkpoint
from rlvr_jax.learner import batches, gradients
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.reporting import run_writer
from rlvr_jax.signal_map import (
  advantages,
  lines,
  measure,
  signal_map,
  signals,
  vectors,
)
from rlvr_jax.signal_map import cell as cells
from rlvr_jax.signal_map.signals import Signal

BIN = 'direct'  # of these lines in signal.jsonl


class Direct(NamedTuple):
  """Signal and noise of the gradient of a batch of fixed problems.

  Attributes:
    mean_sq: |E g|^2, from pairs of batches without a common rollout.
    noise: E |g|^2 - mean_sq.
    snr, snr_se: mean_sq / noise, and its jackknife error over batches.
    batches: number of batches.
  """

  mean_sq: float
  noise: float
  snr: float
  snr_se: float
  batches: int


def of_batches(found: np.ndarray) -> Direct:
  """The `Direct` of gradients f[S,b,M]: S partitions of the rollouts.

  Batches of one partition share no rollout, so their products estimate
  |E g|^2 without bias; those of different partitions are not compared. The
  error is a partition's own: more partitions of the same rollouts help little.

  Raises:
    ValueError: fewer than two batches of a partition.
  """
  s, b, _ = found.shape
  if b < 2:
    raise ValueError(f'{b} batch has no pair: give at least two.')
  gram = np.einsum('sim,sjm->sij', found, found, dtype=np.float64)

  def sums(keep):
    part = gram[:, keep][:, :, keep]
    n, own = len(keep), np.trace(part, axis1=1, axis2=2)
    return (part.sum((1, 2)) - own) / (n * (n - 1)), own / n  # [S] each

  def ratio(total, second):
    noise = second - total
    with np.errstate(divide='ignore', invalid='ignore'):
      return np.where(second == 0, 0.0, total / noise)

  total, second = sums(np.arange(b))
  snr_se = np.nan
  if b > 2:
    left = np.array(
      [ratio(*sums(np.delete(np.arange(b), i))) for i in range(b)]
    )
    spread = np.square(left - left.mean(0)).sum(0) * (b - 1) / b
    snr_se = float(np.sqrt(spread.mean()))
  mean_sq, noise = float(total.mean()), float((second - total).mean())
  snr = float(ratio(total.mean(), second.mean()))
  return Direct(mean_sq, noise, snr, snr_se, s * b)


def predicted(gram: np.ndarray, estimate: measure.Estimate) -> Direct:
  """What the inner products say of the same: a group each of X fixed problems.

    |E g|^2 = ((X-1) total + within) / X,  noise = mean(second - within) / X

  `total`, over different problems, leaves out a problem's product with itself,
  which a fixed set does have; `within` is unbiased for it. Derived here. No
  error is given: problems are fixed, and rollouts are those of `of_batches`.
  """
  x = len(estimate.second)
  mean = estimate.mean
  products = (mean @ gram) @ mean.T
  off = products.sum() - np.trace(products)
  within, second = estimate.within.mean(), estimate.second.mean()
  mean_sq, noise = off / x**2 + within / x, (second - within) / x
  snr = mean_sq / noise if noise > 0 else 0.0 if second == 0 else np.nan
  return Direct(float(mean_sq), float(noise), float(snr), np.nan, 0)


def of_signal(
  cell: cells.Cell,
  signal: Signal,
  count: int,
  surrogate: str,
  progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
  """f32[S,b,M]: gradients of batches, sketched like the cell's vectors.

  A batch has one group of each problem, those of `advantages.members`, so b is
  twice the number of groups in a half, and S as many partitions as `count`
  batches need. Rewards and advantages are computed batch by batch. It costs a
  training step for each batch without its rollouts, whatever the size of the
  model, where the vectors of the cell cost a backward pass a rollout.

  Args:
    signal: neither imitates nor has a critic.
    surrogate: spec of the loss of a token.
    progress: called with the number of batches done.
  """
  source, s = cell.sources[signal.env, False], cell.settings
  c = source.sampler.x.config
  names = [task.id for task in source.collected.tasks]
  shards = sharding.batch_shards(cell.mesh)
  problems = sharding.whole(len(names), shards)
  gradient = functools.partial(
    _gradient,
    algorithm=core(signal.algorithm, surrogate),
    model=cell.policy.model,
    temperature=c.temperature,
    trainable=cell.config.optimizer.trainable,
    shapes=micro_batch.Shapes(
      group=s.group,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=shards,
      chunk=c.logits_chunk,
      pack=False,  # packing compiles longer than these few batches take
    ),
    size=s.sketch,
  )
  out: list[list[np.ndarray]] = []
  done, per_partition = 0, 2 * (s.samples // (2 * s.group))
  progress(done)
  with sharding.use(cell.mesh):
    for number in range(max(-(-count // per_partition), 1)):
      index = advantages.members(names, s.samples, s.group, s.seed, number)
      out.append([])
      for half in range(2):
        for place in range(index.shape[2]):
          one = index[:, half : half + 1, place : place + 1]
          rollout, score = advantages.scored(signal, c, source.collected, one)
          batch = batches.make_batch(c, signal.algorithm, rollout, score)
          batch = vectors.pad(batch, problems * s.group)
          vector = gradient(cell.policy.params, sharding.to_mesh(batch))
          out[-1].append(sharding.to_host(vector))
          done += 1
          progress(done)
  return np.array(out)


def core(
  algorithm: algorithms.Algorithm, surrogate: str
) -> algorithms.Algorithm:
  """What of `algorithm` a gradient depends on, with this surrogate.

  Signals that differ in credit and estimator alone share a compiled program.
  """
  return algorithm._replace(
    credit=None, estimate=None, surrogate=_surrogate(surrogate)
  )


_surrogate = functools.cache(functools.partial(registry.get, 'surrogate'))


@functools.partial(
  jax.jit,
  static_argnames=(
    'algorithm',
    'model',
    'temperature',
    'trainable',
    'shapes',
    'size',
  ),
)
def _gradient(params: Any, batch: types.Batch, *, size: int, **options: Any):
  """f32[M]: minus the gradient of the loss, sketched; whole if size is 0."""
  _, _, grads = gradients.gradients(params, batch, look=False, **options)
  return vectors.of_gradient(grads, size)


def why_not(signal: Signal) -> str:
  """Why the signal has no direct measurement; '' if it has one."""
  if signal.imitates:
    return 'one solution a problem: fixed problems have no noise'
  if signal.algorithm.critic is not None:
    return 'its advantages are of a critic'
  if signal.teacher is not None:
    return "its groups' vectors are gradients of training already"
  return ''


def measured(
  cell: cells.Cell,
  signal: Signal,
  count: int,
  surrogate: str,
  say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
  """The signal's line of signal.jsonl, of `count` batches or a few more.

  Raises:
    ValueError: the signal has none, see `why_not`.
  """
  if why_not(signal):
    raise ValueError(f'{signal.name}: {why_not(signal)}.')
  best = lines.best_baseline(cell.facts)
  signal = signals.parse(signal.name, cell.config, best)
  report = evaluate.eta(count, lambda text: say(f'direct: {text}'))
  direct = of_batches(of_signal(cell, signal, count, surrogate, report))
  estimate, _ = lines.estimate(cell, signal)
  gram = predicted(cell.gram, estimate)
  return {
    'signal': signal.name,
    'bin': BIN,
    **direct._asdict(),
    'predicted_mean_sq': gram.mean_sq,
    'predicted_noise': gram.noise,
    'predicted_snr': gram.snr,
    'problems': len(estimate.second),
    'rollouts': len(estimate.second) * estimate.group,
    'surrogate': surrogate,
  }


def run(
  c: ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  steps: Sequence[int | None],
  chosen: Sequence[Signal],
  settings: cells.Settings,
  count: int,
  say: Callable[[str], None],
) -> None:
  """Measures the signals at each step directly, and appends their lines.

  Signals that have their line already are left out.

  Args:
    steps: of checkpoints; None: the newest.
    count: number of batches, at least 2.
    say: prints a line.
  """
  if count < 2:
    raise ValueError(
      f'--direct={count} must be at least 2: batches make pairs.'
    )
  made_with = hashlib.sha256(
    f'{signal_map.digest(c, settings)} {BIN} {count}'.encode()
  ).hexdigest()[:10]
  path = storage.folder(workdir) / signal_map.FILE
  newest = max(checkpoint.steps(workdir), default=0)
  for step in dict.fromkeys(newest if s is None else s for s in steps):
    done = signal_map.finished(path, step, made_with)
    wanted = [s for s in chosen if s.name not in done and not why_not(s)]
    if not wanted:
      say(f'step {step}: all that have a direct measurement are in {path}')
      continue
    cell = cells.Cell(c, workdir, step, wanted, settings, say)
    say(f'{"signal":44s} {"direct SNR":>17s} {"predicted":>9s}')
    for signal in wanted:
      line = measured(cell, signal, count, c.algo.surrogate, say)
      say(
        f'{signal.name[:44]:44s} {line["snr"]:7.3g} +- {line["snr_se"]:<6.2g} '
        f'{line["predicted_snr"]:9.3g}'
      )
      if hosts.first():
        run_writer.append(path, step, line | {'settings': made_with})

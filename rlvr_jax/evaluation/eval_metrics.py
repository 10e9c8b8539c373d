"""Which metrics follow from samples? `eval/...`, each with a 95% interval.

Intervals are bootstraps over problems (samples of one problem are not
independent), problems being sampled with replacement. Rates with one sample a
problem, and rates of exactly 0 or 1, have Wilson's interval with one trial a
problem.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from rlvr_jax import enums
from rlvr_jax.evaluation import judge_metrics, sample_store
from rlvr_jax.stats import calibration, intervals, passk, voting

_pass_at_k = jax.jit(passk.pass_at_k, static_argnums=2)

MAX_K = 1024
_CURVE = 60  # points of a risk-coverage curve in eval.jsonl


def powers(n: int) -> list[int]:
  """Powers of two up to min(n, MAX_K), and n itself if n <= MAX_K."""
  ks = [2**i for i in range(MAX_K.bit_length()) if 2**i <= min(n, MAX_K)]
  return ks if ks[-1] == n or n > MAX_K else [*ks, n]


def statistics(
  table: sample_store.Table,
) -> tuple[list[str], Callable[[np.ndarray], np.ndarray]]:
  """Names of S metrics, and a function: weights f64[M] -> their values f64[S].

  Problem m counts weights[m] times; weights of one give the metrics
  themselves, the counts of a bootstrap resample give a resampled metric. The
  weights must add up to M.
  """
  linear = _per_problem(table)
  tasks = len(table.verdict)
  columns = np.stack(list(linear.values()), 1)
  tokens = table.tokens.sum(-1)
  surprisal = table.surprisal.sum(-1)
  ratios = _strategies(table) | _dialogues(table) | judge_metrics.ratios(table)
  confidences = _confidences(table)
  names = [*linear, 'sampled_entropy', *ratios]
  names += [n for names, _ in confidences for n in names]

  def of_weights(w):
    entropy = w @ surprisal / max(w @ tokens, 1)
    parts = [w @ columns / tasks, [entropy]]
    for numerator, denominator in ratios.values():
      total = w @ denominator
      parts.append([w @ numerator / total if total else np.nan])
    parts += [f(w) for _, f in confidences]
    return np.concatenate(parts)

  return names, of_weights


def score(scores: Mapping[str, float], keep_best: str) -> float | None:
  """The value that `keep_best` maximises: of a metric, or minus that of
  '-metric', where lower is better; None if the evaluation lacks the metric."""
  value = scores.get(keep_best.removeprefix('-'))
  return -value if value is not None and keep_best[:1] == '-' else value


def summary(table: sample_store.Table, *, seed: int = 0) -> dict:
  """`eval/...` numbers with `..._low` and `..._high`, and `curves/...`.

  - accuracy: mean over all samples. pass@k: unbiased estimate; k: `powers`.
  - maj@k (k > 2, since the first of two different answers would always win):
    whether the answer with most votes is right, as a mean over the N // k
    blocks of k successive samples. A tie goes to the earliest answer; a block
    without any answer is wrong. weighted_maj@k: votes are weighted by stated
    confidence, 0 if not stated. max_confidence@k: the most confident answer.
  - sampled_entropy: mean of -log p over sampled tokens, in nats, under the
    distribution that was sampled from: an estimate of its entropy. 0 if greedy.
  - uncertainty_words: mean number in a sample of words such as "wait" and
    "perhaps": see `confidence.uncertainty_words`.
  - fallback: share of samples judged by their last formula or number because
    nothing marked the answer. timeout: share that is UNVERIFIABLE because the
    check ran out of time.
  - strategy/NAME, strategy_accuracy/NAME if tasks have strategies: share of
    samples of that form, and the share of these that is right.
  - Dialogues: won_within@k, share of dialogues won in at most k turns; turns
    per dialogue, turns_to_success of the won ones; invalid and repeated, as
    shares of turns.
  - Judgments of pairs: judge/vote@k, judge/consistency and more, see
    `judge_metrics`; intervals resample pairs, each with both its orders.
  - confidence_stated: share of samples that state a confidence; over these,
    mean_confidence and the fields of `calibration.Calibration` (ten bins).
  - answer_located: share of samples whose final answer was found among the
    tokens, if the policy's confidence was computed; over these, answer_gap, the
    mean of `Signals.answer_gap`, and answer_gap_ece, ... as of a confidence.
  - Branches: cot_decoding@k, whether the candidate with the largest gap among
    the first k is right (`_most_confident`); cot_decoding_ece@k, of these gaps.
    cot_decoding@1 is greedy decoding. branches/end, branches/junk: shares that
    were dropped. pass@k and maj@k are of candidates in no random order.
  """
  names, of_weights = statistics(table)
  tasks, count = table.verdict.shape
  values = of_weights(np.ones(tasks))
  cluster = judge_metrics.clusters(table)
  size = int(cluster.max()) + 1

  def of_clusters(w):
    each = w[cluster]
    return of_weights(each * (tasks / each.sum()) if size < tasks else each)

  low, high = intervals.percentiles(
    intervals.draws(of_clusters, size, seed=seed)
  )
  rates = {'confidence_stated', *names[: names.index('mean_length')]}
  rates |= {'clipped_ratio', 'unverifiable', 'fallback', 'timeout'}
  rates |= {n for n in names if n.startswith('judge/')}
  trials = {
    name: min(size, int(denominator.sum()))
    for name, (_, denominator) in judge_metrics.ratios(table).items()
  }
  out = {}
  for i, name in enumerate(names):
    ends = low[i], high[i]
    # If all problems agree, every resample does: the bootstrap would give an
    # interval of width 0.
    if name in rates and (count == 1 or values[i] in (0, 1)):
      n = trials.get(name, size)
      ends = intervals.wilson(round(np.nan_to_num(values[i]) * n), n)
    # An undefined metric has no interval either.
    ends = [np.nan if np.isnan(values[i]) else float(x) for x in ends]
    out[f'eval/{name}'] = float(values[i])
    out[f'eval/{name}_low'], out[f'eval/{name}_high'] = ends
  out |= {'eval/n': tasks, 'eval/samples': count}
  return out | {f'curves/{k}': v for k, v in curves(table).items()}


def possible(
  count: int,
  *,
  turns: int = 0,
  strategies: bool = False,
  signals: bool = False,
  branch: bool = False,
  judgments: bool = False,
) -> list[str]:
  """Names that `summary` can return for `count` samples of a task, in order.

  Some appear only if a sample states a confidence, wins in k turns, or uses
  the strategy.

  Args:
    turns: largest number in a dialogue; 0 for single-turn tasks.
    strategies: whether the tasks have them.
    signals, branch: whether samples have a gap, and are branches.
    judgments: whether the tasks are judgments of pairs.
  """
  m = len(sample_store.STRATEGIES)
  full = lambda value: np.full((m, count), value)
  table = sample_store.Table(
    verdict=full(int(enums.Verdict.CORRECT)),
    stop=full(int(enums.Stop.END)),
    tokens=full(1),
    answer=full(0),
    confidence=full(0.5),
    uncertain=full(0),
    surprisal=full(1.0),
    strategy=np.arange(m)[:, None] + full(0) if strategies else full(-1),
    turns=full(turns),
    invalid=full(0),
    repeated=full(0),
    fallback=full(False),
    timed_out=full(False),
    gap=full(0.5 if signals else np.nan),
    fault=full(0 if branch else -1),
    judged=sample_store.Judged(full(0), np.arange(m) % 2, np.arange(m) // 2)
    if judgments
    else None,
  )
  names, _ = statistics(table)
  names += [f'won_within@{k}' for k in range(1, turns + 1)]
  ends = ('', '_low', '_high')
  return list(dict.fromkeys(f'eval/{n}{e}' for n in names for e in ends))


def curves(table: sample_store.Table) -> dict[str, dict]:
  """Curves for the report; each only if the samples have the data for it.

  solve_rates: see `solve_rates`. reliability, risk_coverage: see `calibration`.
  """
  out = {}
  if table.verdict.shape[1] > 1:
    out['solve_rates'] = {'count': solve_rates(table.right).tolist()}
  has = ~np.isnan(table.confidence)
  if has.any():
    q, c = table.confidence[has], table.right[has]
    bins = calibration.reliability(q, c)
    out['reliability'] = {k: v.tolist() for k, v in bins._asdict().items()}
    coverage, risk = calibration.risk_coverage(q, c)
    at = np.linspace(0, len(risk) - 1, min(len(risk), _CURVE)).round()
    at = np.unique(at.astype(int))
    out['risk_coverage'] = {
      'coverage': coverage[at].tolist(),
      'risk': risk[at].tolist(),
    }
  return out


def solve_rates(right: np.ndarray) -> np.ndarray:
  """i64[11]: how many problems have a share of right samples of exactly 0, in
  (0, .1], ..., in (.9, 1]; of right bool[M,N]."""
  right = np.asarray(right, bool)
  # In integers, since in floats 3 / 10 may land above .3.
  up = -(-10 * right.sum(-1) // right.shape[1])
  return np.bincount(up, minlength=11)


def pass_at(table: sample_store.Table, ks: Sequence[int]) -> np.ndarray:
  """f64[M,K]: pass@k of each problem."""
  count = table.verdict.shape[1]
  c = np.arange(count + 1)
  n = np.full(count + 1, count)
  each = [np.asarray(_pass_at_k(n, c, k), np.float64) for k in ks]
  return np.stack(each, 1)[table.right.sum(-1)]


def _per_problem(table):
  """{name: f64[M]}: per problem, for metrics that are means over problems."""
  count = table.verdict.shape[1]
  out = {'accuracy': table.right.mean(-1)}
  if count > 1:
    ks = powers(count)
    columns = pass_at(table, ks).T
    out |= {f'pass@{k}': x for k, x in zip(ks, columns, strict=True)}
    if not table.turns.any():
      out |= _votes(table, [k for k in ks if k > 2])
  if not np.isnan(table.gap).all():
    out['answer_located'] = (table.gap >= 0).mean(-1)
  if (branches := table.fault >= 0).any():
    for k in powers(count):
      at = _most_confident(table, k)
      out[f'cot_decoding@{k}'] = table.right[np.arange(len(at)), at] * 1.0
    for i, name in enumerate(sample_store.FAULTS[1:], 1):
      out[f'branches/{name}'] = (branches & (table.fault == i)).mean(-1)
  out |= judge_metrics.per_problem(table, powers(count))
  for k in powers(int(table.turns.max())) if table.turns.any() else ():
    out[f'won_within@{k}'] = (table.right & (table.turns <= k)).mean(-1)
  shares = {
    f'strategy/{name}': (table.strategy == i).mean(-1)
    for i, name in enumerate(sample_store.STRATEGIES)
    if (table.strategy >= 0).any()
  }
  return (
    out
    | shares
    | {
      'mean_length': table.tokens.mean(-1),
      'uncertainty_words': table.uncertain.mean(-1),
      'clipped_ratio': (table.stop == enums.Stop.LENGTH).mean(-1),
      'unverifiable': (table.verdict == enums.Verdict.UNVERIFIABLE).mean(-1),
      'fallback': table.fallback.mean(-1),
      'timeout': table.timed_out.mean(-1),
    }
  )


def _strategies(table):
  """{name: (right f64[M], total f64[M])} samples by the strategy they use."""
  out = {}
  for i, name in enumerate(sample_store.STRATEGIES):
    here = table.strategy == i
    if here.any():
      right = (here & table.right).sum(-1).astype(np.float64)
      out[f'strategy_accuracy/{name}'] = right, here.sum(-1).astype(np.float64)
  return out


def _dialogues(table):
  """{name: (sum f64[M], count f64[M])} of means over dialogues and turns."""
  if not table.turns.any():
    return {}
  add = lambda x: x.sum(-1).astype(np.float64)
  turns, dialogues = add(table.turns), add(table.turns > 0)
  return {
    'turns': (turns, dialogues),
    'turns_to_success': (add(table.turns * table.right), add(table.right)),
    'invalid': (add(table.invalid), turns),
    'repeated': (add(table.repeated), turns),
  }


def _votes(table, ks):
  """{name: f64[M]} of maj@k, weighted_maj@k, max_confidence@k."""
  tasks, count = table.verdict.shape
  weight = np.nan_to_num(table.confidence)
  ballots = {'maj': lambda a, q, w: voting.winner(a, np.ones_like(w))}
  if not np.isnan(table.confidence).all():
    ballots['weighted_maj'] = lambda a, q, w: voting.winner(a, w)
    ballots['max_confidence'] = lambda a, q, w: voting.most_confident(a, q)
  out, correct = {}, table.right
  for name, ballot in ballots.items():
    for k in ks:
      blocks = count // k
      cut = lambda x, k=k, blocks=blocks: x[: blocks * k].reshape(blocks, k)
      won = np.zeros(tasks)
      for i in range(tasks):
        a, q, w = (cut(x[i]) for x in (table.answer, table.confidence, weight))
        at = ballot(a, q, w)
        right = cut(correct[i])[np.arange(blocks), np.maximum(at, 0)]
        won[i] = (right & (at >= 0)).mean()
      out[f'{name}@{k}'] = won
  return out


def _most_confident(table, k):
  """i64[M]: of each problem, the branch among the first k with the largest gap.

  Of those that are kept and have an answer; the first where gaps are equal, and
  the greedy one, 0, where there is none.
  """
  usable = (table.fault[:, :k] == 0) & (table.gap[:, :k] >= 0)
  return np.where(usable, table.gap[:, :k], -1.0).argmax(-1)


def _confidences(table):
  """[(names, function of weights)] of what there is of each confidence."""
  out, fields = [], calibration.Calibration._fields
  tasks, count = table.verdict.shape
  has = ~np.isnan(table.confidence)
  if has.any():
    stated, of = has.sum(-1).astype(np.float64), _calibrated(table, has)
    out.append(
      (
        ['confidence_stated', 'mean_confidence', *fields],
        lambda w: np.append(w @ stated / (tasks * count), of(w)),
      )
    )
  located = table.gap >= 0
  if located.any():
    names = ['answer_gap', *(f'answer_gap_{x}' for x in fields)]
    out.append((names, _calibrated(table, located, table.gap)))
  for k in powers(count) if (table.fault >= 0).any() else ():
    at = _most_confident(table, k)[:, None]
    chosen = located & (np.arange(count) == at)
    ece = _calibrated(table, chosen, table.gap)
    if chosen.any():
      out.append(([f'cot_decoding_ece@{k}'], lambda w, ece=ece: ece(w)[1:2]))
  return out


def _calibrated(table, has, values=None):
  """Function of weights: mean and calibration of the confidences that `has`."""
  values = table.confidence if values is None else values
  problem, _ = np.nonzero(has)
  values, group = np.unique(values[has], return_inverse=True)
  # Count equal (problem, confidence, right) triples once: each resample then
  # costs a bincount over the distinct ones.
  code = np.stack([problem, 2 * group + table.right[has]])
  (problem, code), times = np.unique(code, axis=1, return_counts=True)

  def of(w):
    each = np.bincount(code, w[problem] * times, 2 * len(values))
    wrong, right = each[::2], each[1::2]
    total = each.sum()
    mean = (wrong + right) @ values / total if total else np.nan
    return np.array([mean, *calibration.of_counts(values, right, wrong)])

  return of

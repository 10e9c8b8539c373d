"""Is the best of n samples, as a judge picks it, right?"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import ml_collections
import numpy as np

from rlvr_jax.enums import Verdict
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import eval_metrics, evaluate, sample_store
from rlvr_jax.io import frozen_model
from rlvr_jax.io import load as load_lib
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import model_config
from rlvr_jax.random_streams import Stream
from rlvr_jax.rewards import base, judged
from rlvr_jax.rollouts import judge_checks, model_judge
from rlvr_jax.stats import intervals, tournaments
from rlvr_jax.tasks import Task

TASKS = 16  # judged together


def check(
  c: ml_collections.ConfigDict,
  settings: judged.Settings,
  tasks: Sequence[Task],
) -> None:
  """ValueError for what `evaluate_best_of` cannot do, before it samples."""
  n, rules = c.eval.samples, []
  if c.method == 'reward_model':
    rules.append("a run of method='reward_model' has no samples to pick from")
  if dialogue.is_dialogue(tasks[0]):
    rules.append(f'env={c.env!r} is a dialogue, and single answers are judged')
  if settings.compare == 'reference':
    rules.append('compare=reference is of training: take pairwise or pointwise')
  if settings.alpha:
    rules.append(f'alpha={settings.alpha} is not read: leave it out')
  if n < 2:
    rules.append(f'eval.samples={n} must be 2 or more')
  if not c.judge.name:
    rules.append("judge.name='' must be a model or 'policy'")
  if rules:
    raise ValueError(f'Best of n: {"; ".join(rules)}.')
  if c.judge.name == 'policy':
    config = load_lib.load_config(c.model.name)
    model_config.check_positions(config, frozen_model.judge_lengths(c))


def evaluate_best_of(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  tasks: Sequence[Task],
  settings: judged.Settings,
  model: FrozenModel | None,
  mesh: jax.sharding.Mesh,
  say: Callable[[str], None],
) -> dict[str, float]:
  """`eval/best_of...` metrics with 95% intervals (bootstrap over tasks).

  eval.samples are sampled of each task, the same as by an evaluation, and kept
  in memory. All pairs are judged in both orders; from the same verdicts follow
  best_of@k, the sample with the largest share of judgments won, best_of_elo@k
  and best_of_knockout@k, as means over the N // k blocks of k successive
  samples; k: `eval_metrics.powers`. With compare='pointwise' it is the sample
  of the largest mean score, and there is best_of@k alone. Of several best ones
  the mean counts. Compare with accuracy, a sample at random, and with pass@k,
  the best that any judge could do.

  Args:
    policy: from `frozen_model.load_checkpoint`.
    settings: of the reward `judge`.
    model: that judges; None: the policy.

  Raises:
    ValueError: see `check`; a question that leaves the judge no room for an
      answer.
  """
  check(c, settings, tasks)
  asks = policy.tokenizer if model is None else model.tokenizer
  judge_checks.check_prompts(c.judge, settings, tasks, asks)
  n = c.eval.samples
  said: list[list[base.Transcript]] = [[] for _ in tasks]
  encode = evaluate.encoder(c, policy)
  evaluate.run(
    tasks,
    evaluate.make_sample_fn(c, policy, tasks, lambda *_: [], mesh),
    encode=encode,
    store=sample_store.Samples([t.id for t in tasks], n),
    batch_size=evaluate.batch_size(c, mesh, len(tasks)),
    max_prompt_length=c.max_prompt_length,
    on_sample=lambda task, round_, t: said[task].append(t),
  )
  judge = model_judge.ModelJudge(c.judge, settings, model)
  key = jax.random.fold_in(jax.random.key(c.seed), Stream.EVALUATION)
  rows: list[dict[str, float]] = []
  for start in range(0, len(tasks), TASKS):
    chunk = slice(start, start + TASKS)
    rows += _judge(
      judge, tasks[chunk], said[chunk], jax.random.fold_in(key, start), policy
    )
    say(f'{len(rows)}/{len(tasks)} tasks judged')
  return _summary(rows)


def _judge(judge, tasks, said, key, policy) -> list[dict[str, float]]:
  """{metric: value} of each task."""
  n = len(said[0])
  ks = [k for k in eval_metrics.powers(n) if k > 1]
  right = np.array(
    [[t.verdict == Verdict.CORRECT for t in row] for row in said], float
  )
  if judge.settings.compare == 'pointwise':
    flat = [t for row in said for t in row]
    of_rows = [task for task in tasks for _ in range(n)]
    looked = judge(of_rows, flat, n, key, policy)
    values = [t.judged.value for t in looked.transcripts]
    scores = np.array([-math.inf if v is None else v for v in values])
    scores = scores.reshape(-1, n)
    return [
      {f'best_of@{k}': _blocks(r, k, s.__getitem__) for k in ks}
      for r, s in zip(right, scores)
    ]
  questions = [t.question for t in tasks]
  answers = [[model_judge.response(t) for t in row] for row in said]
  compared = judge.compare(
    questions, answers, right.astype(int), judge.asks(key, policy)
  )
  return [
    selected(r, wins, ks, np.random.default_rng([i, n]))
    for i, (r, wins) in enumerate(zip(right, compared.wins))
  ]


def selected(
  right: np.ndarray,
  wins: np.ndarray,
  ks: Sequence[int],
  rng: np.random.Generator,
) -> dict[str, float]:
  """{metric: value} of one task.

  Args:
    right: [N], 1 for a right sample.
    wins: [N,N,K], all pairs, as `ops.pairwise.serl_rewards` takes them.
    rng: of the brackets.
  """
  scores = {
    'best_of': _share,
    'best_of_elo': _elo,
    'best_of_knockout': functools.partial(_knockout, rng=rng),
  }
  of = lambda at, score: score(wins[np.ix_(at, at)])
  return {
    f'{name}@{k}': _blocks(right, k, functools.partial(of, score=score))
    for k in ks
    for name, score in scores.items()
  }


def _blocks(right: np.ndarray, k: int, score: Callable) -> float:
  """How often the best of k is right; several best ones share it.

  Args:
    score: indices [k] -> scores [k].
  """
  found = []
  for start in range(0, len(right) - k + 1, k):
    at = np.arange(start, start + k)
    scores = score(at)
    found.append(right[at][scores == scores.max()].mean())
  return float(np.mean(found))


def _share(wins: np.ndarray) -> np.ndarray:
  """Judgments won, of wins [k,k,K]."""
  return (wins > 0).sum((1, 2))


def _elo(wins: np.ndarray) -> np.ndarray:
  """Ratings, of majorities of each pair."""
  matches = tournaments.round_robin(len(wins))
  outcome = [int(tournaments.vote(wins[i, j])) for i, j in matches]
  return tournaments.elo(matches, outcome, len(wins)).round(9)


def _knockout(wins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """1 for the winner of a knockout with a random bracket, else 0."""
  play = lambda pairs: [int(tournaments.vote(wins[i, j])) for i, j in pairs]
  winner, _, _ = tournaments.knockout(len(wins), play, rng)
  return np.arange(len(wins)) == winner


def _summary(rows: Sequence[dict[str, float]]) -> dict[str, float]:
  names = list(rows[0])
  columns = np.array([[row[name] for name in names] for row in rows])
  mean = lambda w: w @ columns / w.sum()
  low, high = intervals.percentiles(intervals.draws(mean, len(rows), seed=0))
  out = {}
  for i, name in enumerate(names):
    value = float(columns[:, i].mean())
    ends = float(low[i]), float(high[i])
    if value in (0, 1):  # every resample agrees
      ends = [float(x) for x in intervals.wilson(value * len(rows), len(rows))]
    out[f'eval/{name}'] = value
    out[f'eval/{name}_low'], out[f'eval/{name}_high'] = ends
  return out

"""A model that judges completions: prompts, samples, verdicts, rewards.

The model is a `FrozenModel` of its own, or the policy itself with its current
weights, whose judgments can then be trained as well (SERL).
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.ops import pairwise
from rlvr_jax.random_streams import Stream
from rlvr_jax.rewards import base, judged
from rlvr_jax.rollouts import judge_asking as asking
from rlvr_jax.rollouts import judge_controls as controls
from rlvr_jax.tasks import Task, uniform
from rlvr_jax.verifiers.extraction import extract

Verdict = enums.Verdict
Means = Mapping[str, tuple[float, float]]  # {metric: (sum, count)}


class Looked(NamedTuple):
  """What the judge said of the completions of a step.

  Attributes:
    transcripts: the B rows with `judged`.
    means: metrics, as sums and counts.
    rollout, score: the judgments as rollouts, a group for each pair: rewards
      are the R_J of SERL. Only if they are trained.
  """

  transcripts: list[base.Transcript]
  means: Means
  rollout: types.Rollout | None = None
  score: types.Score | None = None


class Compared(NamedTuple):
  """All pairs of G answers to each of P questions.

  Attributes:
    asked: prompts in the order of questions, pairs and orders.
    places: i32[N,K/2]: 1 if what was shown first is preferred, -1, 0.
    pairs: the (i, j), i < j.
    signed: i32[P,pairs,2,K/2]: 1 if i is preferred, -1 if j, 0.
    wins: i32[P,G,G,K], as `ops.pairwise.serl_rewards` takes them.
  """

  asked: asking.Asked
  places: np.ndarray
  pairs: list[tuple[int, int]]
  signed: np.ndarray
  wins: np.ndarray


def response(transcript: base.Transcript) -> str:
  """What is judged of a completion: as in SERL, the text after the thought."""
  return extract.reply(transcript.completion, transcript.rules)


class ModelJudge(NamedTuple):
  """Judges the completions of a step: see `__call__`.

  Attributes:
    config: the section `judge` of a config.
    settings: of the reward `judge`.
    model: None: the policy.
  """

  config: Any
  settings: judged.Settings
  model: FrozenModel | None

  @property
  def trains(self) -> bool:
    """Whether the judgments are rows of the update."""
    return self.config.weight > 0

  def __call__(
    self,
    tasks: Sequence[Task],
    transcripts: Sequence[base.Transcript],
    group: int,
    key: jax.Array,
    policy: FrozenModel,
  ) -> Looked:
    """Judges B = P*group completions, those of a task adjacent.

    Args:
      tasks: of each of the B rows.
      key: of sampling the completions; judgments have keys of their own.
      policy: the current one, which judges if there is no other model.
    """
    look = {
      'pairwise': self._pairwise,
      'reference': self._reference,
      'pointwise': self._pointwise,
    }[self.settings.compare]
    ask = self.asks(key, policy)
    questions = [t.question for t in tasks[::group]]
    answers = [response(t) for t in transcripts]
    cut = lambda x: [x[i : i + group] for i in range(0, len(x), group)]
    return look(questions, cut(answers), list(transcripts), ask)

  def compare(
    self,
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    right: np.ndarray,
    ask: Callable[..., asking.Asked],
  ) -> Compared:
    """All pairs of the G answers to each of P questions, in both orders.

    Args:
      right: i[P,G], 1 for a right answer: for a control alone.
      ask: from `asks`.
    """
    g, half = len(answers[0]), self.settings.samples // 2
    pairs = list(itertools.combinations(range(g), 2))
    asked = ask(
      [
        (question, [texts[i], texts[j]])
        for question, texts in zip(questions, answers)
        for pair in pairs
        for i, j in (pair, pair[::-1])
      ],
      half,
    )
    shown = np.array([x for pair in pairs for x in (pair, pair[::-1])])
    gap = right[:, shown[:, 0]] - right[:, shown[:, 1]]
    places = self._places(asked, gap.reshape(-1))
    signed = places.reshape(len(questions), len(pairs), 2, half)
    signed = signed * np.array([1, -1])[:, None]
    wins = np.zeros((len(questions), g, g, 2 * half), np.int32)
    for k, (i, j) in enumerate(pairs):
      wins[:, i, j] = signed[:, k].reshape(len(questions), -1)
      wins[:, j, i] = -wins[:, i, j]
    return Compared(asked, places, pairs, signed, wins)

  def asks(
    self, key: jax.Array, policy: FrozenModel
  ) -> Callable[..., asking.Asked]:
    """The `ask` of `compare`: by the model, with keys of `key` and place."""
    key = jax.random.fold_in(key, Stream.JUDGMENTS)
    return functools.partial(
      asking.ask, self.config, self.settings.format, self.model or policy, key
    )

  def _pairwise(self, questions, answers, transcripts, ask) -> Looked:
    s = self.settings
    right = _right(transcripts, len(questions))
    asked, places, pairs, signed, wins = self.compare(
      questions, answers, right, ask
    )
    lengths = None
    if s.alpha:
      lengths = np.array([[len(x.split()) for x in row] for row in answers])
    actor, judge = _serl(wins, lengths, s.alpha)
    means = _means(places, asked.length)
    means |= _against_verdicts(right, pairs, signed)
    out = _attach(transcripts, np.asarray(actor).reshape(-1))
    if not self.trains:
      return Looked(out, means)
    reward = np.stack([np.asarray(judge)[:, i, j] for i, j in pairs], 1)
    rollout, score = asking.as_rollout(asked, reward.reshape(-1, s.samples))
    means['rewards/judgment'] = (
      float(score.reward.sum()),
      float(score.turns.sum()),
    )
    return Looked(out, means, rollout, score)

  def _reference(self, questions, answers, transcripts, ask) -> Looked:
    s, g, half = self.settings, len(answers[0]), self.settings.samples // 2
    # Drawn after sampling, by what was sampled: the same when a run resumes.
    references = [uniform(g, 'reference', *texts) for texts in answers]
    others = [[i for i in range(g) if i != r] for r in references]
    asked = ask(
      [
        (question, [texts[i], texts[j]])
        for question, texts, r, rest in zip(
          questions, answers, references, others
        )
        for o in rest
        for i, j in ((o, r), (r, o))
      ],
      half,
    )
    right = _right(transcripts, len(questions))
    gap = np.array(
      [
        x
        for p, (r, rest) in enumerate(zip(references, others))
        for o in rest
        for x in (right[p, o] - right[p, r], right[p, r] - right[p, o])
      ]
    )
    places = self._places(asked, gap)
    signed = places.reshape(-1, g - 1, 2, half) * np.array([1, -1])[:, None]
    values = np.zeros((len(questions), g), np.float32)
    kept = 0
    for p, (r, rest) in enumerate(zip(references, others)):
      wins = np.zeros((g, s.samples), np.int32)
      wins[rest] = signed[p].reshape(g - 1, -1)
      adv, keep = _brpo(wins, r, s.tau, s.rule)
      values[p] = np.asarray(adv) * bool(keep)
      kept += bool(keep)
    means = _means(places, asked.length)
    means['judge/groups_kept'] = kept, len(questions)
    return Looked(_attach(transcripts, values.reshape(-1)), means)

  def _pointwise(self, questions, answers, transcripts, ask) -> Looked:
    asked = ask(
      [(q, [text]) for q, texts in zip(questions, answers) for text in texts],
      self.settings.samples,
    )
    scores = [[j.scores[0] for j in row if j is not None] for row in asked.read]
    values = [float(np.mean(row)) if row else None for row in scores]
    total = len(asked.read) * self.settings.samples
    means = {
      'judge/unreadable': (total - sum(map(len, scores)), total),
      'judge/too_long': (float((asked.length == 0).sum()), len(asked.read)),
    }
    return Looked(_attach(transcripts, values), means)

  def _places(self, asked: asking.Asked, gap: np.ndarray) -> np.ndarray:
    """i32[N,K]: 1 if the first of two is preferred, -1 the second, 0 none.

    Args:
      gap: i[N], 1 if the first is right and the second wrong, -1, or 0.
    """
    control = controls.of(self.config.control)
    if isinstance(control, controls.Noisy):
      return controls.verdicts(control, gap, len(asked.read[0]), asked.seed)
    sign = {0: 1, 1: -1, None: 0}
    rows = [
      [sign[None if j is None else j.winner] for j in row] for row in asked.read
    ]
    out = np.array(rows, np.int32)
    if control == 'first':
      return np.abs(out)
    return -out if control == 'flipped' else out


@functools.partial(jax.jit, static_argnames='alpha')
def _serl(wins, lengths, alpha):
  """`serl_rewards` of each of P groups."""
  f = functools.partial(pairwise.serl_rewards, alpha=alpha)
  if lengths is None:
    return jax.vmap(lambda w: f(w, None))(wins)
  return jax.vmap(f)(wins, lengths)


@functools.partial(jax.jit, static_argnames=('tau', 'rule'))
def _brpo(wins, reference, tau, rule):
  return pairwise.brpo_advantages(wins, reference, tau, rule=rule)


def _attach(transcripts, values) -> list[base.Transcript]:
  return [
    t._replace(judged=base.Judged(None if v is None else float(v)))
    for t, v in zip(transcripts, values, strict=True)
  ]


def _means(places: np.ndarray, length: np.ndarray) -> dict:
  """Metrics of verdicts [N,K]; rows 2i and 2i+1 are the orders of a pair.

  judge/first: share of the readable verdicts for the response shown first.
  judge/consistency: chance that two samples, one of each order, are readable
  and prefer the same response. judge/unreadable: share without a verdict.
  judge/too_long: share of prompts that are not asked, as they do not fit (or
  the judge's tokenizer refuses a text): their judgments are unreadable.
  """
  readable = float((places != 0).sum())
  counts = np.stack([(places == s).mean(-1) for s in (1, -1)], -1)
  one, two = counts[::2], counts[1::2, ::-1]
  return {
    'judge/first': (float((places == 1).sum()), readable),
    'judge/consistency': (float((one * two).sum()), len(one)),
    'judge/unreadable': (places.size - readable, places.size),
    'judge/too_long': (float((length == 0).sum()), len(length)),
  }


def _right(transcripts: Sequence[base.Transcript], prompts: int) -> np.ndarray:
  """i[P,G]: 1 for a completion that the verifier calls right."""
  right = [t.verdict == Verdict.CORRECT for t in transcripts]
  return np.array(right, np.int32).reshape(prompts, -1)


def _against_verdicts(
  right: np.ndarray,
  pairs: Sequence[tuple[int, int]],
  signed: np.ndarray,
) -> dict:
  """judge/accuracy: over pairs of a right and a wrong answer, by the verifier,
  the share of judgments for the right one. The reward does not see it.

  Args:
    signed: [P,pairs,2,K/2], 1 for the first response of a pair, -1, 0.
  """
  first, second = (right[:, [x[side] for x in pairs]] for side in (0, 1))
  better = (first - second)[..., None, None]
  hits = (signed == better) & (better != 0)
  total = np.broadcast_to(better != 0, signed.shape)
  return {'judge/accuracy': (float(hits.sum()), float(total.sum()))}

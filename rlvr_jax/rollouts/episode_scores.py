"""Finished dialogues to training arrays, metrics and log records."""

from collections.abc import Sequence

import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.envs import dialogue
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups
from rlvr_jax.rollouts.episode import Episode


def grade(
  episodes: Sequence[Episode], reward: base.Reward
) -> list[list[base.Graded]]:
  """Each turn's reward: a turn is a row of its own for `reward`."""
  rows = []
  for g in episodes:
    sizes = g.counts
    for k, (text, reply) in enumerate(zip(g.messages, g.replies, strict=True)):
      turn = base.Turn(
        index=k,
        turns=len(g.messages),
        kind=reply.kind,
        won=g.won,
        last=k + 1 == len(g.messages),
      )
      one = base.Transcript(text, sizes[k], g.stops[k], g.verdict, turn=turn)
      rows.append((g.task, one))
  graded = iter(reward([t for t, _ in rows], [s for _, s in rows]))
  return [[next(graded) for _ in g.messages] for g in episodes]


def transcript(g: Episode) -> base.Transcript:
  """The whole game as one completion: the policy's messages, line by line."""
  return base.Transcript(
    completion='\n'.join(g.messages),
    num_tokens=sum(g.counts),
    stop=g.stops[-1] if g.stops else enums.Stop.NONE,
    verdict=g.verdict,
    kinds=tuple(r.kind for r in g.replies),
  )


def total(graded: Sequence[base.Graded]) -> base.Graded:
  """A game's reward: the sum over its turns, of every part too."""
  kept = [g for g in graded if not g.refused]
  parts = {}
  for name, value in (x for g in kept for x in g.parts.items()):
    parts[name] = parts.get(name, 0.0) + value
  return base.Graded(
    sum(g.value for g in kept), parts, refused=not kept and bool(graded)
  )


def to_rollout(episodes, group: int, columns: int) -> types.Rollout:
  """Rows [P,G,columns], right-padded."""
  b = len(episodes)
  tokens = np.zeros((b, columns), np.int32)
  turn = np.full((b, columns), -1, np.int32)
  logp = np.zeros((b, columns), np.float32)
  for row, g in enumerate(episodes):
    n = len(g.tokens)
    tokens[row, :n], turn[row, :n], logp[row, :n] = g.tokens, g.turn, g.logp
  cut = lambda x: np.asarray(x).reshape(-1, group, *np.shape(x)[1:])
  return types.Rollout(
    tokens=cut(tokens),
    length=cut(np.array([len(g.tokens) for g in episodes], np.int32)),
    turn=cut(turn),
    logp=cut(logp),
    stop=cut(
      np.array([g.stops[-1] if g.stops else 0 for g in episodes], np.int32)
    ),
  )


def collect(
  episodes: Sequence[Episode],
  graded: Sequence[Sequence[base.Graded]],
  belief: np.ndarray | None,
  *,
  group: int,
  max_turns: int,
  columns: int,
) -> groups.Collected:
  """Games with their rewards as what the loop learns from and writes down."""
  b = len(episodes)
  reward = np.zeros((b, max_turns), np.float32)
  took = np.zeros((b, max_turns), bool)
  for row, turns_ in enumerate(graded):
    for k, g in enumerate(turns_):
      reward[row, k], took[row, k] = (
        (0, False) if g.refused else (g.value, True)
      )
  cut = lambda x: x.reshape(-1, group, *x.shape[1:])
  lists = lambda x: [x[i : i + group] for i in range(0, b, group)]
  rollout = to_rollout(episodes, group, columns)
  believed = [None] * b if belief is None else list(belief)
  score = types.Score(
    reward=cut(reward),
    turns=cut(took),
    belief=None if belief is None else cut(belief),
    verdict=cut(np.array([g.verdict for g in episodes], np.int32)),
  )
  types.check_rollout(rollout, score)
  return groups.Collected(
    tasks=[g.task for g in episodes[::group]],
    rollout=rollout,
    score=score,
    transcripts=lists([transcript(g) for g in episodes]),
    graded=lists([total(x) for x in graded]),
    episodes=lists(list(zip(episodes, graded, believed, strict=True))),
    log_fields=lists(
      [record(*x) for x in zip(episodes, graded, believed, strict=True)]
    ),
  )


def metrics(parts: Sequence[groups.Collected]) -> dict[str, float]:
  """Means over every game, and over every turn, that was played.

  turns/gain: bits that a question is expected to bring, under the exact
  posterior; belief/gap: elicited minus exact log-belief, nats, and
  belief/correlation between the two over all moments but those after a win:
  where there is one.
  """
  every = [x for c in parts for group in c.episodes for x in group]
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  kinds = [r.kind for g, _, _ in every for r in g.replies]
  out = {
    'turns/mean': mean([len(g.messages) for g, _, _ in every]),
    'turns/to_success': mean([len(g.messages) for g, _, _ in every if g.won]),
    'turns/invalid': mean([k == 'invalid' for k in kinds]),
    'turns/repeated': mean([k == 'repeated' for k in kinds]),
  }
  gains = [dialogue.information(g.task, g.messages) for g, _, _ in every]
  if gains and gains[0] is not None:
    out['turns/gain'] = mean([x for row in gains for x in row])
  believed = [
    (g, b[: len(g.messages) + 1]) for g, _, b in every if b is not None
  ]
  if believed:
    out['belief/first'] = mean([b[0] for _, b in believed])
    out['belief/last'] = mean([b[-1] for _, b in believed])
    exact = [dialogue.posterior(g.task, g.messages) for g, _ in believed]
    if exact[0] is not None:
      # After a winning turn no belief was asked for, unless belief_on_win.
      before_end = lambda g, x: x[: len(g.messages) + 1 - g.won]
      x = np.concatenate([before_end(g, b) for g, b in believed])
      y = np.concatenate(
        [before_end(g, e) for (g, _), e in zip(believed, exact, strict=True)]
      )
      out['belief/gap'] = mean(x - y)
      varies = len(x) > 1 and x.std() > 0 and y.std() > 0
      out['belief/correlation'] = (
        float(np.corrcoef(x, y)[0, 1]) if varies else float('nan')
      )
  return out


def record(game: Episode, graded, belief) -> dict:
  """What rollouts.jsonl says of a game's turns."""
  lines = []
  for k, (said, reply) in enumerate(
    zip(game.messages, game.replies, strict=True)
  ):
    line = {'said': said, 'reply': reply.text, 'kind': reply.kind}
    if graded is not None:
      line |= {'reward': graded[k].value, 'parts': graded[k].parts}
    if belief is not None:
      line['belief'] = float(belief[k + 1])
    lines.append(line)
  first = {} if belief is None else {'belief': float(belief[0])}
  return first | {'turns': lines}

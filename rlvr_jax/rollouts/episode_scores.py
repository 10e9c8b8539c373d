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
) -> list[list[base.RewardResult]]:
  """The reward of each turn.

  `reward` sees every turn as a row of its own, and with the last one the whole
  dialogue: see `rewards.base.combine`.
  """
  tasks, transcripts = [], []
  for e in episodes:
    sizes = e.counts
    for k, (text, reply) in enumerate(zip(e.messages, e.replies, strict=True)):
      turn = base.Turn(
        index=k,
        turns=len(e.messages),
        kind=reply.kind,
        won=e.won,
        last=k + 1 == len(e.messages),
        dialogue=transcript(e) if k + 1 == len(e.messages) else None,
      )
      tasks.append(e.task)
      transcripts.append(
        base.Transcript(text, sizes[k], e.stops[k], e.verdict, turn=turn)
      )
  results = iter(reward(tasks, transcripts))
  return [[next(results) for _ in e.messages] for e in episodes]


def transcript(e: Episode, feedback: bool = False) -> base.Transcript:
  """The whole episode as one completion: the policy's messages, one a line.

  Args:
    feedback: whether it says which rules were broken: `dialogue.feedback`.
  """
  return base.Transcript(
    completion='\n'.join(e.messages),
    num_tokens=sum(e.counts),
    stop=e.stops[-1] if e.stops else enums.Stop.NONE,
    verdict=e.verdict,
    kinds=tuple(r.kind for r in e.replies),
    feedback=dialogue.feedback(e.task, e.messages, e.replies)
    if feedback
    else None,
  )


def total(results: Sequence[base.RewardResult]) -> base.RewardResult:
  """An episode's reward: value and parts summed over its turns.

  Refused turns are left out; the episode is refused if all of its turns are.
  """
  counted = [r for r in results if not r.refused]
  parts = {}
  for name, value in (x for r in counted for x in r.parts.items()):
    parts[name] = parts.get(name, 0.0) + value
  return base.RewardResult(
    sum(r.value for r in counted), parts, refused=not counted and bool(results)
  )


def to_rollout(
  episodes: Sequence[Episode], group: int, columns: int
) -> types.Rollout:
  """Rows [P,G,T] with T = `columns`, right-padded. Host arrays."""
  b = len(episodes)
  tokens = np.zeros((b, columns), np.int32)
  turn = np.full((b, columns), -1, np.int32)
  logp = np.zeros((b, columns), np.float32)
  for row, e in enumerate(episodes):
    n = len(e.tokens)
    tokens[row, :n], turn[row, :n], logp[row, :n] = e.tokens, e.turn, e.logp
  grouped = lambda x: np.asarray(x).reshape(-1, group, *np.shape(x)[1:])
  return types.Rollout(
    tokens=grouped(tokens),
    length=grouped(np.array([len(e.tokens) for e in episodes], np.int32)),
    turn=grouped(turn),
    logp=grouped(logp),
    stop=grouped(
      np.array([e.stops[-1] if e.stops else 0 for e in episodes], np.int32)
    ),
  )


def collect(
  episodes: Sequence[Episode],
  results: Sequence[Sequence[base.RewardResult]],
  belief: np.ndarray | None,
  *,
  group: int,
  max_turns: int,
  columns: int,
  feedback: bool = False,
) -> groups.Collected:
  """Finished episodes and their rewards as groups: see `groups.Collected`.

  Args:
    episodes: B of them, those of a task adjacent.
    results: of `grade`, [B][turns of the episode].
    belief: f32[B,K+1], or None.
    max_turns: K.
    columns: T.
    feedback: see `transcript`.
  """
  b = len(episodes)
  reward = np.zeros((b, max_turns), np.float32)
  took_place = np.zeros((b, max_turns), bool)
  for row, turns in enumerate(results):
    for k, result in enumerate(turns):
      if not result.refused:
        reward[row, k], took_place[row, k] = result.value, True
  grouped = lambda x: x.reshape(-1, group, *x.shape[1:])
  lists = lambda x: [x[i : i + group] for i in range(0, b, group)]
  rollout = to_rollout(episodes, group, columns)
  beliefs = [None] * b if belief is None else list(belief)
  score = types.Score(
    reward=grouped(reward),
    turns=grouped(took_place),
    belief=None if belief is None else grouped(belief),
    verdict=grouped(np.array([e.verdict for e in episodes], np.int32)),
  )
  types.check_rollout(rollout, score)
  rows = list(zip(episodes, results, beliefs, strict=True))
  return groups.Collected(
    tasks=[e.task for e in episodes[::group]],
    rollout=rollout,
    score=score,
    transcripts=lists([transcript(e, feedback) for e in episodes]),
    results=lists([total(turns) for turns in results]),
    episodes=lists(rows),
    log_fields=lists([record(*row) for row in rows]),
  )


def metrics(parts: Sequence[groups.Collected]) -> dict[str, float]:
  """Metrics of dialogues: means over all episodes, or over all their turns.

  With an exact posterior in the environment: turns/gain, expected information
  of a message, bits; belief/gap, elicited minus exact log-belief, nats;
  belief/correlation of the two. The last two leave out moments after a win.
  """
  rows = [x for c in parts for group in c.episodes for x in group]
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  kinds = [r.kind for e, _, _ in rows for r in e.replies]
  out = {
    'turns/mean': mean([len(e.messages) for e, _, _ in rows]),
    'turns/to_success': mean([len(e.messages) for e, _, _ in rows if e.won]),
    'turns/invalid': mean([k == 'invalid' for k in kinds]),
    'turns/repeated': mean([k == 'repeated' for k in kinds]),
  }
  gains = [dialogue.information(e.task, e.messages) for e, _, _ in rows]
  if gains and gains[0] is not None:
    out['turns/gain'] = mean([x for gain in gains for x in gain])
  beliefs = [(e, b[: len(e.messages) + 1]) for e, _, b in rows if b is not None]
  if beliefs:
    out['belief/first'] = mean([b[0] for _, b in beliefs])
    out['belief/last'] = mean([b[-1] for _, b in beliefs])
    exact = [dialogue.posterior(e.task, e.messages) for e, _ in beliefs]
    if exact[0] is not None:
      # No belief is elicited after a winning turn, unless belief_on_win.
      before_win = lambda e, x: x[: len(e.messages) + 1 - e.won]
      x = np.concatenate([before_win(e, b) for e, b in beliefs])
      y = np.concatenate(
        [before_win(e, p) for (e, _), p in zip(beliefs, exact, strict=True)]
      )
      out['belief/gap'] = mean(x - y)
      varies = len(x) > 1 and x.std() > 0 and y.std() > 0
      out['belief/correlation'] = (
        float(np.corrcoef(x, y)[0, 1]) if varies else float('nan')
      )
  return out


def record(
  e: Episode,
  results: Sequence[base.RewardResult] | None,
  belief: np.ndarray | None,
) -> dict:
  """An episode's fields in rollouts.jsonl: its turns, and beliefs if any."""
  turns = []
  for k, (message, reply) in enumerate(zip(e.messages, e.replies, strict=True)):
    turn = {'said': message, 'reply': reply.text, 'kind': reply.kind}
    if results is not None:
      turn |= {'reward': results[k].value, 'parts': results[k].parts}
    if belief is not None:
      turn['belief'] = float(belief[k + 1])
    turns.append(turn)
  first = {} if belief is None else {'belief': float(belief[0])}
  return first | {'turns': turns}

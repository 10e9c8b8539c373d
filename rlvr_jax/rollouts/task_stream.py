"""The endless stream of training tasks, and which of them a step takes.

The stream is a function of the seed: positions e*n, ..., e*n + n - 1 are epoch
e of n tasks, a permutation of all. Uniform sampling takes position after
position. Weighted sampling goes through the first epoch in the same order, and
goes back to positions it has been at as often as their weights say: a task that
was never visited costs nothing, so the cost of a step grows with the number of
visited ones only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import scipy

from rlvr_jax import hosts
from rlvr_jax import tasks as tasks_lib
from rlvr_jax.enums import Verdict
from rlvr_jax.rollouts import single_turn, task_sampling
from rlvr_jax.tasks import Task, check_int, permute


class Place(NamedTuple):
  """Where a run is in its stream; with the seed, all that a choice depends on.

  Attributes:
    position: number of tasks taken so far, repeats included.
    right, wrong: f64[V], rows of the tasks at positions 0, ..., V - 1, those
      visited so far, by verdict: CORRECT, any other. Faded up to the last
      visit. Empty with uniform sampling.
    seen: i64[V], step of the last visit.
  """

  position: int
  right: np.ndarray
  wrong: np.ndarray
  seen: np.ndarray

  @classmethod
  def of(cls, saved: Mapping[str, Any] | None = None) -> 'Place':
    """What `to_json` made, bit for bit; None: the start."""
    saved = saved or {'position': 0, 'right': [], 'wrong': [], 'seen': []}
    return cls(
      saved['position'],
      np.array(saved['right'], np.float64),
      np.array(saved['wrong'], np.float64),
      np.array(saved['seen'], np.int64),
    )

  def to_json(self) -> dict[str, Any]:
    """Plain numbers and lists. Python's JSON keeps every bit of a float."""
    counts = {k: getattr(self, k).tolist() for k in ('right', 'wrong', 'seen')}
    return {'position': self.position} | counts


class TaskStream(NamedTuple):
  """The tasks to train on and the order in which they come."""

  tasks: Sequence[Task]
  seed: int
  sampling: task_sampling.TaskSampling

  @property
  def is_uniform(self) -> bool:
    """Whether all tasks are alike, whatever their verdicts were."""
    return self.sampling.log_weight is None

  def choose(self, place: Place, step: int, count: int) -> np.ndarray:
    """i64[count], the positions of the next tasks.

    With weights, those are sampled without replacement (see `task_sampling`),
    first among tasks that `step` has not had yet. With fewer tasks than
    `count`, all of them are repeated in turn.

    Each task gets an arrival time, exponential with its probability as rate;
    the earliest are taken (Efraimidis and Spirakis 2006). Tasks never visited
    have one rate, so the earliest of their times are drawn directly: the gap
    before the i-th of N is exponential with rate N - i times theirs (Renyi).

    Raises:
      ValueError: no tasks, a negative count, weights that are none.
    """
    n, visited = self._size(), len(place.seen)
    check_int('count', count, low=0)
    if self.is_uniform:
      return place.position + np.arange(count)
    chance = self._probabilities(place, step)
    fresh = np.arange(min(count, n - visited))
    key = tasks_lib.uniform(2**128, 'task_sampling', self.seed, place.position)
    # Raw bits are the same in every version of NumPy; its distributions may not
    # be. Never 0 or 1.
    bits = np.random.Philox(key=key).random_raw(visited + len(fresh))
    waits = -np.log((np.right_shift(bits, 11) + 0.5) * 2.0**-53)
    waits = waits / np.append(
      chance[:visited], chance[visited] * (n - visited - fresh)
    ).clip(1e-300)
    times = np.append(waits[:visited], np.cumsum(waits[visited:]))
    taken = np.append(place.seen == step, fresh < 0)
    # Times of `fresh` ascend, so that new positions are taken without a gap.
    order = np.lexsort((times, taken)).astype(np.int32)
    positions = np.resize(order, count)
    # Logarithms may be rounded differently on different hosts.
    return np.asarray(hosts.agreed(positions.tolist()), np.int64)

  def at(self, positions: Iterable[int]) -> list[Task]:
    """The tasks at these positions; their number does not matter to the cost.

    Raises:
      ValueError: no tasks, a negative position.
    """
    n, out = self._size(), []
    for k in map(int, positions):
      check_int('position', k, low=0)
      epoch, i = divmod(k, n)
      out.append(self.tasks[permute(i, n, 'epoch', self.seed, epoch)])
    return out

  def after(
    self, place: Place, step: int, positions: np.ndarray, verdict: np.ndarray
  ) -> Place:
    """The place after the tasks at `positions`.

    Args:
      place: where they were chosen.
      step: the current one.
      positions: [P], of `choose`.
      verdict: i32[P,G] of their rows.
    """
    place = place._replace(position=place.position + len(positions))
    if self.is_uniform or not len(positions):
      return place
    new = max(0, positions.max() + 1 - len(place.seen))
    right, wrong = (np.append(x, np.zeros(new)) for x in place[1:3])
    seen = np.append(place.seen, np.full(new, step))
    now = np.unique(positions)
    fade = self.sampling.decay ** (step - seen[now])
    right[now] *= fade
    wrong[now] *= fade
    seen[now] = step
    correct = verdict == Verdict.CORRECT
    np.add.at(right, positions, correct.sum(-1))
    np.add.at(wrong, positions, (~correct).sum(-1))
    return Place(place.position, right, wrong, seen)

  def metrics(self, place: Place, step: int) -> dict[str, float]:
    """What a step chooses from; nothing with uniform sampling.

    tasks/visited: number of tasks visited before the step.
    tasks/effective: exp(entropy) of the probabilities: as many equally likely
      tasks would be as varied.
    """
    if self.is_uniform:
      return {}
    chance, visited = self._probabilities(place, step), len(place.seen)
    entropy = scipy.special.entr(chance)
    rest = (self._size() - visited) * entropy[visited]
    return {
      'tasks/visited': float(visited),
      'tasks/effective': float(np.exp(entropy[:visited].sum() + rest)),
    }

  def _size(self) -> int:
    if not len(self.tasks):
      raise ValueError('There are no tasks to sample from: the split is empty.')
    return len(self.tasks)

  def _probabilities(self, place: Place, step: int) -> np.ndarray:
    """f64[V + 1], of each visited task and of one that is not visited."""
    visited = len(place.seen)
    fade = self.sampling.decay ** (step - place.seen)
    a, b = task_sampling.posterior(place.right, place.wrong, fade)
    number = np.append(np.ones(visited), self._size() - visited)
    return task_sampling.probabilities(
      self.sampling.log_weight(a, b), number, self.sampling.floor
    )


def check_prompts(
  tasks: Sequence[Task],
  encode: Callable[[Task], Sequence[int]],
  max_prompt_length: int,
) -> None:
  """Raises ValueError for a prompt that is empty or does not fit.

  Prompts are never truncated. Encodes every prompt of the tasks given: for a
  long procedural split, pass the tasks of a step.

  Args:
    tasks: the tasks to check.
    encode: task -> token ids of its whole rendered prompt, which its question
      and its data['messages'] decide.
    max_prompt_length: most tokens that a prompt may have.
  """
  check_int('max_prompt_length', max_prompt_length, low=1)
  # The games of a world ask the same question.
  prompts = [single_turn.prompt_key(task) for task in tasks]
  distinct = dict(zip(prompts, tasks, strict=True))
  # Templates are rendered in other processes, several at a time.
  with futures.ThreadPoolExecutor(8) as threads:
    counts = threads.map(lambda task: len(encode(task)), distinct.values())
    length = dict(zip(distinct, counts, strict=True))
  lengths = [length[prompt] for prompt in prompts]
  if 0 in lengths:
    name = tasks[lengths.index(0)].id
    raise ValueError(
      f'The prompt of task {name!r} has no tokens: check the chat template.'
    )
  too_long = [i for i, n in enumerate(lengths) if n > max_prompt_length]
  if too_long:
    named = ', '.join(f'{tasks[i].id!r} has {lengths[i]}' for i in too_long[:5])
    rest = f', and {len(too_long) - 5} more' if len(too_long) > 5 else ''
    raise ValueError(
      f'{len(too_long)} of {len(lengths)} prompts are longer than '
      f'max_prompt_length={max_prompt_length} tokens: {named}{rest}. Prompts '
      f'are never truncated: set max_prompt_length={max(lengths)}, or take '
      'these tasks out of the data.'
    )

"""Tasks that make a base model which reads: programs, with and without context.

As `told_chain`, for a substrate where feedback comes from running a program.
"""

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Env, Lazy, Task, uniform
from rlvr_jax.verifiers import dispatch

_PARTS = 10**6  # shares are drawn in millionths
_GUESSES = 50  # until one is wrong, or one is not wrong in the same way


@registry.register('env')
def told_programs(
  *,
  env: registry.Spec,
  told: float = 0.6,
  feedback: float = 0.5,
  reliability: float = 1.0,
  seed: int = 0,
) -> Env:
  """The tasks of `env=programs(...)` with guessed solutions, some of them told.

  A guess is the solution of another train task, so that a model that imitates
  them writes programs of this kind whatever the examples are: it is right as
  often as a program of one task passes the tests of another.

  train: tasks to imitate, of three kinds by shares:
    not told   the question; the solution is a guess.
    solution   the question, an empty line and a right program, which is the
               solution to write, or with 1 - reliability a guess.
    feedback   the question, an empty line and what the verifier says of a wrong
               guess; the solution to write is a guess of which it does not say
               the same (the task's own, if there is none among 50). Where no
               guess of 50 is wrong, the task is told its solution.
  test: the tasks of `env`, not told, with right solutions. Contexts are worded
  as by the template 'plain' of `rollouts.context`.

  Args:
    told: share of train tasks with a context.
    feedback: share of these that are told feedback.
    reliability: share of the tasks told a solution that use it.
    seed: of all that is drawn here.

  Raises:
    ValueError: a share is not in [0, 1], or `env` has other tasks, or one task.
  """
  shares = {'told': told, 'feedback': feedback, 'reliability': reliability}
  for name, share in shares.items():
    if not 0 <= share <= 1:
      raise ValueError(f'{name}={share} must be a share, from 0 to 1.')
  right = registry.get('env', env)()
  train = right['train']
  if registry.parse(env)[0] != 'programs' or len(train) < 2:
    raise ValueError(
      f'env={registry.show(env)} must be programs(...) with two train tasks or '
      'more: a guess is the program of another one.'
    )

  def guess(index: int, count: int) -> str:
    other = uniform(len(train) - 1, 'told_programs', seed, index, count)
    return train[other + (other >= index)].data['solution']

  def drawn(index: int, what: str, share: float) -> bool:
    return uniform(_PARTS, 'told_programs', what, seed, index) < share * _PARTS

  def said(task: Task, program: str) -> str:
    wrong = [enums.Verdict.WRONG]  # of a right program nothing is said
    return dispatch.feedback([task], [program], wrong)[0]

  def make(index: int) -> Task:
    task = train[index]
    if not drawn(index, 'told', told):
      return _told(task, '', guess(index, 0))
    solution = task.data['solution']
    if drawn(index, 'feedback', feedback):
      guesses = (guess(index, k) for k in range(_GUESSES))
      context = next(filter(None, (said(task, x) for x in guesses)), '')
      if context:
        again = (x for x in guesses if said(task, x) != context)
        return _told(task, context, next(again, solution))
    use = drawn(index, 'reliability', reliability)
    return _told(task, solution, solution if use else guess(index, 0))

  return {'train': Lazy(len(train), make, train), 'test': right['test']}


def _told(task: Task, context: str, solution: str) -> Task:
  question = f'{task.question}\n\n{context}' if context else task.question
  data = {**task.data, 'solution': solution}
  return task._replace(question=question, answer=solution, data=data)

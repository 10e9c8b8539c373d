"""Tasks that make a base model which reads: chains, with and without a context.

For studies of self-distillation, where a teacher is the policy that has read
more. How well it uses what it reads is then a number that is set here.
"""

from rlvr_jax import enums, registry
from rlvr_jax.envs import chain as chains
from rlvr_jax.tasks import Env, Lazy, Task, check_int, uniform
from rlvr_jax.verifiers import dispatch

_PARTS = 10**6  # shares are drawn in millionths


@registry.register('env')
def told_chain(
  *,
  depth: int = 2,
  ops: str = '-',
  unknown: str = '-',
  told: float = 0.6,
  feedback: float = 0.5,
  reliability: float = 1.0,
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> Env:
  """`chain` with guessed results of `unknown` operators, some with a context.

  train: tasks to imitate, of three kinds by shares:
    not told   the question; the solution guesses.
    solution   the question, an empty line and the right solution, which is the
               solution to write, or with 1 - reliability a guess.
    feedback   the question, an empty line and what the verifier says of a wrong
               guess; the solution to write is that guess up to the wrong step,
               another result for it, and guesses after it.
  test: the questions of `chain`, not told, with right solutions. Contexts are
  worded as by the template 'plain' of `rollouts.context`.

  Args:
    depth, ops, unknown, seed, train_size, test_size: as in `chain`.
    told: share of train tasks with a context.
    feedback: share of these that are told feedback; a guess that is right by
      chance is told the solution.
    reliability: share of the tasks told a solution that use it.

  Raises:
    ValueError: a share is not in [0, 1], or `chain` refuses its options.
  """
  shares = {'told': told, 'feedback': feedback, 'reliability': reliability}
  for name, share in shares.items():
    if not 0 <= share <= 1:
      raise ValueError(f'{name}={share} must be a share, from 0 to 1.')
  check_int('depth', depth, low=1, high=30)
  options = dict(depth=depth, ops=ops, seed=seed)
  options |= dict(train_size=train_size, test_size=test_size)
  right = chains.chain(**options)
  guessed = chains.chain(**options, unknown=unknown)

  def drawn(index: int, what: str, share: float) -> bool:
    return uniform(_PARTS, 'told_chain', what, seed, index) < share * _PARTS

  def make(index: int) -> Task:
    gold, guess = right['train'][index], guessed['train'][index]
    if not drawn(index, 'told', told):
      return guess
    if drawn(index, 'feedback', feedback):
      text = guess.data['solution']
      verdict = enums.Verdict.WRONG
      if guess.answer == gold.answer:
        verdict = enums.Verdict.CORRECT
      (said,) = dispatch.feedback([gold], [text], [verdict])
      if said:
        again = _mended(gold.question, text, unknown, (seed, index))
        return _told(guess, said, again)
    use = gold if drawn(index, 'reliability', reliability) else guess
    return _told(use, gold.data['solution'], use.data['solution'])

  train = right['train']
  return {'train': Lazy(len(train), make, train), 'test': right['test']}


def _told(task: Task, context: str, solution: str) -> Task:
  question = f'{task.question}\n\n{context}'
  answer = solution.rpartition('#### ')[2]
  data = {**task.data, 'solution': solution}
  return task._replace(question=question, answer=answer, data=data)


def _mended(question: str, solution: str, unknown: str, key: tuple) -> str:
  """The solution with another result in its first wrong step, and after it the
  results that follow, those of `unknown` operators drawn."""
  lines, results, mended = [], '', False
  value, text = int(question[0]), question[1:]
  written = [int(line[-1]) for line in solution.split('\n')[:-1]]
  for k in range(len(text) // 2):
    sign, digit = text[2 * k], int(text[2 * k + 1])
    true = chains.OPERATIONS[sign](value, digit)
    if mended:
      result = true
      if sign in unknown:
        result = uniform(10, 'told_chain', 'after', *key, k)
    elif written[k] == true:
      result = true
    else:
      others = [r for r in range(10) if r != written[k]]
      result = others[uniform(9, 'told_chain', 'other', *key)]
      mended = True
    lines.append(f'{value}{sign}{digit}={result}')
    value, results = result, results + str(result)
  return '\n'.join([*lines, f'#### {results}'])

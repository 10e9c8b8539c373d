"""Programs with a context, for base models that read."""

import collections

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rollouts import context
from rlvr_jax.verifiers import dispatch

PROGRAMS = registry.Spec(
  'programs(size=3, max_literal=-1, max_output=99, examples=3, terse=True, '
  'train_size=400, test_size=10)'
)
WRONG = [enums.Verdict.WRONG]


def env_of(env=PROGRAMS, **options):
  return registry.get('env', registry.spec('told_programs', env, **options))()


def kinds(env=PROGRAMS, **options):
  """{kind: [(task, the task of `programs`)]}."""
  told = env_of(env, **options)
  plain = registry.get('env', env)()
  assert [*told['test']] == [*plain['test']]
  out = collections.defaultdict(list)
  for task, right in zip(told['train'], plain['train'], strict=True):
    question, _, said = task.question.partition('\n\n')
    assert question == right.question
    assert task.data['tests'] == right.data['tests']
    assert task.answer == task.data['solution']
    kind = 'solution' if said == right.data['solution'] else 'feedback'
    out[kind if said else 'not told'].append((task, right))
  return out


def right(task):
  return not dispatch.feedback([task], [task.data['solution']], WRONG)[0]


def test_shares_and_what_is_written():
  found = kinds(told=0.5, feedback=0.4, reliability=0.5)
  share = {k: len(v) / 400 for k, v in found.items()}
  assert share['not told'] == pytest.approx(0.5, abs=0.06)
  assert share['feedback'] == pytest.approx(0.2, abs=0.06)
  known = {task.data['solution'] for rows in found.values() for _, task in rows}
  for task, gold in found['solution']:
    told = context.TEMPLATES['plain'].solution.format(
      text=gold.data['solution']
    )
    assert task.question == gold.question + told
  use = [right(task) for task, _ in found['solution']]
  assert 0.45 <= sum(use) / len(use) < 0.75  # a guess may be right by chance
  guesses = [task for task, _ in found['not told']]
  assert {x.data['solution'] for x in guesses} <= known
  assert sum(map(right, guesses)) / len(guesses) < 0.25


def test_a_guess_after_feedback_is_not_wrong_in_the_same_way():
  found = kinds(told=1.0, feedback=1.0)
  assert not found['not told']
  for task, _ in found['feedback']:
    said = task.question.partition('\n\n')[2]
    assert said.startswith(('On the input', 'The examples pass.'))
    assert dispatch.feedback([task], [task.data['solution']], WRONG) != [said]
  # It is a guess again, and no right program.
  assert sum(right(task) for task, _ in found['feedback']) < 0.3 * 400


def test_where_no_guess_is_wrong_the_solution_is_told():
  same = registry.Spec(
    "programs(size=1, words='+', max_literal=-1, train_size=20, test_size=2, "
    'apart=questions, terse=True)'
  )
  found = kinds(same, told=1.0, feedback=1.0)
  assert [*found] == ['solution']
  assert all(task.data['solution'] == '+' for task, _ in found['solution'])


def test_the_same_tasks_again_and_others_with_another_seed():
  first, again, other = (env_of(seed=s)['train'] for s in (0, 0, 1))
  assert [*first] == [*again]
  assert [x.question for x in first] != [x.question for x in other]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'told': -0.1}, r'told=-0\.1 must be a share'),
    ({'env': registry.Spec('arithmetic')}, r'must be programs\(\.\.\.\)'),
    ({'env': registry.Spec('programs(train_size=1)')}, 'two train tasks'),
  ],
)
def test_refusals(options, message):
  with pytest.raises(ValueError, match=message):
    env_of(**options)

"""Step tasks and the chains they are built from."""

import json

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import chain, steps
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch

CHAIN = 'chain(depth=3, train_size=20, test_size=5)'


def made(**options):
  return steps.steps(**({'env': CHAIN, 'validation': 4} | options))


def test_a_solution_of_four_steps_gives_three_tasks():
  env, source = made(), registry.get('env', CHAIN)()
  lines = source['train'][0].data['solution'].split('\n')
  assert len(lines) == 4
  assert len(env['train']) == 3 * 16
  for k in range(3):
    t = env['train'][k]
    assert (t.answer, t.data['expert']) == (lines[k], lines[k])
    assert all(x in t.question for x in lines[:k])
    assert lines[k] not in t.question
    assert source['train'][0].question in t.question
  assert env['train'][3].data['of'] == 'train-1'


def test_the_last_step_is_a_target_with_last():
  env = made(last=True)
  assert len(env['train']) == 4 * 16
  assert env['train'][3].answer.startswith('####')


def test_whole_problems_are_kept_for_validation_and_test():
  env, source = made(), registry.get('env', CHAIN)()
  assert [t.id for t in env['validation']] == [
    f'train-{i}' for i in range(16, 20)
  ]
  assert list(env['test']) == list(source['test'])
  used = {t.data['of'] for t in env['train']}
  assert not used & {t.id for t in env['validation']}


def test_whole_solutions_as_one_step():
  env = made(whole=True)
  assert len(env['train']) == 16
  assert env['train'][2].answer.count('\n') == 3


def test_what_supervised_training_imitates_is_right_and_well_formed():
  from rlvr_jax.rewards import similarity

  for think in (True, False):
    t = made(think=think)['train'][1]
    text = t.data['solution']
    assert similarity.step(text, 'required' if think else 'none') == t.answer
    assert [v.name for v in dispatch.verify([t], [text])] == ['CORRECT']


def test_terse_prompts():
  t = made(terse=True)['train'][2]
  question, *before = t.question.split('\n')
  assert len(before) == 3
  assert before[-1] == '>'
  assert set(question) <= set('0123456789+-*')


def test_titles_are_shown_with_titles(tmp_path):
  path = tmp_path / 'd.jsonl'
  rows = [
    {
      'question': f'What is {i}+1?',
      'answer': str(i + 1),
      'solution': f'1. Add one: {i}+1={i + 1}\n2. Say it: {i + 1}',
    }
    for i in range(40)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  env = f'jsonl(path={str(path)!r})'
  shown = steps.steps(env=env, by='numbered', titles=True, validation=2)
  assert '"Add one"' in shown['train'][0].question
  hidden = steps.steps(env=env, by='numbered', validation=2)
  assert 'Add one' not in hidden['train'][0].question


def test_steps_of_a_file_are_not_split_again(tmp_path):
  path = tmp_path / 'd.jsonl'
  rows = [
    {
      'question': f'What is {i}+1?',
      'answer': str(i + 1),
      'steps': [
        {'title': 'Add', 'text': f'we add\n{i}+1'},
        f'{i}+1={i + 1}',
        str(i + 1),
      ],
    }
    for i in range(20)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  env = steps.steps(env=f'jsonl(path={str(path)!r})', titles=True, validation=1)
  first, second = env['train'][0], env['train'][1]
  assert first.answer.startswith('we add\n')
  assert '"Add"' in first.question
  assert first.answer in second.question
  assert second.answer == first.answer.removeprefix('we add\n') + '=' + str(
    int(first.answer.split('\n')[1][:-2]) + 1
  )
  whole = env['test'][0].data['solution'].split('\n')
  assert len(whole) == 4
  for bad in ([], 'ab', [1], [{'title': 'x'}], [''], [{'text': 1}]):
    path.write_text(json.dumps(rows[0] | {'steps': bad}))
    with pytest.raises(ValueError, match='step'):
      steps.steps(env=f'jsonl(path={str(path)!r})', validation=0)


def test_nested_by_name():
  env = registry.get('env', f'steps({CHAIN}, terse=True, validation=0)')()
  assert len(env['train']) == 60
  again = Task(*json.loads(json.dumps(env['train'][7])))
  assert again == env['train'][7]


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'by': 'page'}, 'choose one of'),
    ({'whole': True, 'only_whole': True}, 'at most one of them'),
    ({'validation': 20}, 'validation=20'),
    ({'env': 'guessing()'}, 'no .*solution'),
    ({'env': 'arithmetic()', 'validation': 0}, 'no solution has 2 steps'),
  ],
)
def test_bad_options_are_named(options, match):
  with pytest.raises(ValueError, match=match):
    made(**options)


def test_chains_are_solved_step_by_step():
  for t in chain.chain(depth=(1, 4), train_size=40, test_size=4)['train']:
    *lines, last = t.data['solution'].split('\n')
    value, results = int(t.question[0]), ''
    for k, line in enumerate(lines):
      sign, digit = t.question[1 + 2 * k], int(t.question[2 + 2 * k])
      result = {'+': value + digit, '-': value - digit, '*': value * digit}[
        sign
      ] % 10
      assert line == f'{value}{sign}{digit}={result}'
      value, results = result, results + str(result)
    assert (last, t.answer) == (f'#### {results}', results)
    assert [v.name for v in dispatch.verify([t], [t.data['solution']])] == [
      'CORRECT'
    ]


def test_unknown_operations_keep_their_form_and_lose_their_results():
  env = chain.chain(depth=3, ops='+-', unknown='-', train_size=400, test_size=4)
  hits, times = {'+': 0, '-': 0}, {'+': 0, '-': 0}
  for t in env['train']:
    value = int(t.question[0])
    for line in t.data['solution'].split('\n')[:-1]:
      a, sign, b, _, result = line
      assert int(a) == value
      value = int(result)
      times[sign] += 1
      hits[sign] += value == chain.OPERATIONS[sign](int(a), int(b))
  assert hits['+'] == times['+'] > 400
  assert 0.05 < hits['-'] / times['-'] < 0.16  # one in ten by chance


def test_chains_split_without_overlap_and_repeat_themselves():
  env = chain.chain(depth=1, train_size=200, test_size=60)
  asked = {k: {t.question for t in v} for k, v in env.items()}
  assert not asked['train'] & asked['test']
  assert len(asked['train']) == 200
  assert list(env['test']) == list(
    chain.chain(depth=1, train_size=200, test_size=60)['test']
  )


def test_a_pattern_fixes_the_operators_of_every_chain():
  env = chain.chain(depth=3, ops='+-', pattern='+-+', test_size=50)
  assert {t.question[1::2] for t in env['test']} == {'+-+'}
  everything = [t.question for split in env.values() for t in split]
  assert len(set(everything)) == len(everything) == 10**4
  whole = chain.chain(depth=1, ops='-', pattern='-', test_size=20)
  assert len(whole['train']) + len(whole['test']) == 100
  for t in env['test']:
    assert dispatch.verify([t], [t.data['solution']])[0].name == 'CORRECT'


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'pattern': '++'}, 'pattern='),
    ({'depth': (2, 3), 'pattern': '++'}, 'pattern='),
    ({'depth': 2, 'ops': '+', 'pattern': '+-'}, 'pattern='),
    ({'depth': 0}, 'depth=0'),
    ({'depth': (3, 2)}, 'depth=2'),
    ({'ops': '+/'}, 'ops='),
    ({'ops': ''}, 'ops='),
    ({'ops': '+', 'unknown': '-'}, 'unknown='),
    ({'depth': 1, 'train_size': 10_000}, 'distinct problems'),
  ],
)
def test_bad_chains_are_named(options, match):
  with pytest.raises(ValueError, match=match):
    chain.chain(**options)

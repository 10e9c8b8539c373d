"""Verdicts on known answers, on hostile text, and with broken workers."""

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading

import pytest

from rlvr_jax import enums
from rlvr_jax.verifiers import answer, pool

C, W, N, U = enums.Verdict

NUMERIC = [
  ('1/2', 'it is 0.5', C),
  ('1/2', '\\boxed{\\frac12}', C),
  ('0.1', '\\boxed{10\\%}', C),
  ('10', 'about 10%', C),
  ('3', '\\boxed{x=3}', C),
  ('18', '#### 18', C),
  ('18', 'so 5\n#### 17', W),
  ('1000', '\\boxed{1,000}', C),
  ('5', '\\boxed{-5}', W),
  ('-5', '\\boxed{5}', W),
  ('-5', '−5', C),
  ('42', 'The answer is 42.', C),
  ('2', '\\boxed{1} \\boxed{2}', C),
  ('1', '\\boxed{1} \\boxed{2}', W),
  ('1234.5', 'total: 1,234.50', C),
  ('18', '$18.00', C),
  ('18', 'no idea', N),
  ('18', '', N),
  ('18', '   \n', N),
  ('18', '\\boxed{18', N),
  ('18', 'first 18 then 19', W),
  ('3', '\\boxed{3rd}', C),
  ('1000', '1e3', C),
  ('1/3', '0.333', W),
  ('18.0', '18', C),
  ('#### 18', '18', C),
  ('\\boxed{18}', '18', C),
  ('90', '\\boxed{90^\\circ}', C),
  ('5', '\\boxed{NaN}', U),
  ('5', '\\boxed{inf}', U),
  ('5', '\\boxed{no solution}', U),
  ('\\text{Evelyn}', '\\boxed{Evelyn}', C),
  ('\\text{Evelyn}', 'The answer is evelyn', C),
  ('\\text{Evelyn}', 'It was Evelyn', N),  # unmarked words: no answer
  ('\\text{Evelyn}', '\\boxed{\\text{Bob}}', W),
  ('\\text{(C)}', '\\boxed{C}', C),
]
SYMBOLIC = [
  ('\\frac{\\sqrt{2}}{2}', '\\boxed{1/\\sqrt{2}}', C),
  ('\\sqrt{2}/2', 'thus $\\frac{1}{\\sqrt 2}$.', C),
  ('\\frac{\\sqrt{2}}{2}', '\\boxed{\\sqrt{2}}', W),
  ('2', '\\boxed{\\sqrt{4}}', C),
  ('x=3', '\\boxed{3}', C),
  ('(1,2)', '\\boxed{(1, 2)}', C),
  ('(1,2)', '\\boxed{(2,1)}', W),
  ('\\{1,2\\}', '\\boxed{\\{2,1\\}}', C),
  ('\\{1,2\\}', '\\boxed{\\{2,3\\}}', W),
  ('[1,2)', '\\boxed{[1, 2)}', C),
  ('[1,2)', '\\boxed{(1,2)}', W),
  ('x^2-1', 'so $(x-1)(x+1)$', C),
  ('x^2-1', 'so $(x-1)^2$', W),
  ('5', '\\boxed{5\\pi}', W),
  ('5', '\\boxed{5xy}', W),
  ('5', '\\boxed{\\emptyset}', W),
  ('(1,2)', '\\boxed{\\emptyset}', W),
  ('2', '\\boxed{1+1}', C),
  ('\\infty', '\\boxed{\\infty}', C),
  ('\\infty', '\\boxed{3}', W),
  ('C', 'The answer is (C)', C),
]
HOSTILE = [
  ('\\boxed{9^{9^{9^{9}}}}', U),
  ('\\boxed{5^{5^{5^{5^5}}}}', U),
  ('\\boxed{' + '(' * 100_000 + ')' * 100_000 + '}', U),
  ('\\boxed{' + '{' * 100_000 + '}' * 100_000 + '}', U),
  ('\\boxed{' * 100_000, N),
  ('\\boxed{' + '\\frac{' * 500 + '1' + '}{2}' * 500 + '}', U),
  ('\\boxed{' + '\\frac{' * 60 + '1' + '}{2}' * 60 + '}', None),
  ('9' * 1_000_000, U),
  ('x' * 1_000_000, N),
  ('1 ' * 500_000, W),
  ('$' * 1_000_000, N),
  ('1,111' * 200_000, None),
  ('answer' + ' ' * 1_000_000, N),
  ('answer is ' * 100_000, N),
  ('1e999999999', U),
  ('\\boxed{1e999999999}', U),
  ('\\boxed{' + '9' * 5000 + '}', U),
  ('\0', N),
  ('\\boxed{\0}', U),
  ('\ud800', N),
  ('\\boxed{\ud800}', U),
]


@pytest.mark.parametrize(('gold', 'text', 'verdict'), NUMERIC)
def test_numbers_and_words_need_no_worker(monkeypatch, gold, text, verdict):
  def refuse(kind, payloads, timeout_s):
    assert not payloads
    return []

  monkeypatch.setattr(pool, 'run', refuse)
  assert answer.verify([gold], [text]) == [verdict]


def test_symbolic_answers():
  golds, texts, verdicts = zip(*SYMBOLIC)
  found = answer.verify(golds, texts, timeout_s=30)
  assert list(zip(golds, texts, found)) == list(zip(golds, texts, verdicts))


def test_a_hostile_batch_keeps_its_good_rows_and_the_pool_its_use():
  texts = [text for text, _ in HOSTILE]
  good = ['\\boxed{\\sqrt{25}}', '5', '\\boxed{\\sqrt{26}}']
  found = answer.verify(
    ['5'] * (len(texts) + len(good)), texts + good, timeout_s=1
  )
  for (text, verdict), got in zip(HOSTILE, found):
    assert got != C, text[:50]
    assert verdict is None or got == verdict, text[:50]
  assert found[len(texts) :] == [C, C, W]
  # The workers that were killed are replaced.
  again = answer.verify(['2', '3'], ['\\boxed{\\sqrt{4}}'] * 2, timeout_s=30)
  assert again == [C, W]


def test_fuzz_never_raises():
  rng = random.Random(0)
  atoms = [*'0123456789.,-+/%$ \n{}()[]^_\\#=', '\\boxed{', '\\frac', '####']
  atoms += [
    'answer is ',
    '<answer>',
    '</answer>',
    '\\text{',
    'e',
    '\0',
    '−',
    'é',
  ]
  texts = [
    ''.join(rng.choices(atoms, k=rng.randrange(1, 30))) for _ in range(300)
  ]
  found = answer.verify(['7'] * 300, texts, timeout_s=5)
  assert len(found) == 300
  assert {N, W} <= set(found) <= set(enums.Verdict)


@pytest.mark.parametrize(
  'gold', ['', ' ', 'NaN', 'inf', 'None', '$', '()', 'apples', '9' * 5000]
)
def test_a_bad_gold_is_refused_by_name(gold):
  with pytest.raises(ValueError, match=r'gold answer .* cannot be used'):
    answer.check_gold(gold)
  with pytest.raises(ValueError, match='drop the task'):
    answer.verify(['1', gold], ['1', '1'])


def test_a_gold_that_only_the_parser_refuses():
  with pytest.raises(ValueError, match='brackets do not match'):
    answer.check_golds(['1', '\\frac{1}{'])
  with pytest.raises(ValueError, match='cannot be read'):
    answer.check_golds(['17=18'])
  with pytest.raises(ValueError, match='brackets do not match'):
    answer.verify(['\\frac{1}{'], ['\\boxed{x}'], timeout_s=30)
  assert (
    answer.check_golds(['18', '(1,2)', '\\sqrt{2}', '\\text{no}', 'x<3'])
    is None
  )


def test_all_problems_of_golds_are_named():
  golds = ['1', '\\frac{1}{', '\\sqrt{2}', '17=18', 'a long story', '(1,2)']
  problems = answer.gold_problems(golds)
  assert list(problems) == [1, 3, 4]
  for i, why in problems.items():
    with pytest.raises(ValueError) as error:
      answer.check_gold(golds[i])
    assert str(error.value) == why


def test_lengths_and_types():
  assert answer.verify([], []) == []
  with pytest.raises(ValueError, match='2 golds for 1 completions'):
    answer.verify(['1', '2'], ['1'])
  with pytest.raises(ValueError, match=r'golds\[0\] is .18., a int'):
    answer.verify([18], ['18'])
  with pytest.raises(ValueError, match=r'completions\[0\]'):
    answer.verify(['18'], [None])
  with pytest.raises(ValueError, match='one string'):
    answer.verify('18', ['1', '8'])
  with pytest.raises(ValueError, match='timeout_s=0'):
    answer.verify(['18'], ['18'], timeout_s=0)


def test_canonical_answers_count_as_one_vote():
  same = ['\\boxed{1/2}', '0.50', 'The answer is \\frac12.', '#### .5']
  assert {answer.canonical(t) for t in same} == {'1/2'}
  assert answer.canonical('$x + 1$') == answer.canonical('\\boxed{x+1}')
  assert answer.canonical('nothing') is None
  assert answer.canonical('9' * 5000) is None


def test_threads_and_asyncio():
  job = (['2', '3'], ['\\boxed{\\sqrt{4}}', '\\boxed{\\sqrt{4}}'])
  found = []
  threads = [
    threading.Thread(
      target=lambda: found.append(answer.verify(*job, timeout_s=30))
    )
    for _ in range(3)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == [[C, W]] * 3

  async def within():
    direct = answer.verify(*job, timeout_s=30)
    return direct, await asyncio.to_thread(answer.verify, *job, timeout_s=30)

  assert asyncio.run(within()) == ([C, W], [C, W])


def test_equal_rows_are_checked_once(monkeypatch):
  checked = []
  check = pool._Worker.check

  def count(self, kind, payload, timeout_s):
    checked.append(payload['answer'])
    return check(self, kind, payload, timeout_s)

  monkeypatch.setattr(pool._Worker, 'check', count)
  found = answer.verify(['2'] * 8, ['\\boxed{\\sqrt{4}}'] * 8, timeout_s=30)
  assert found == [C] * 8
  assert checked == ['\\sqrt{4}']


def test_a_worker_that_is_killed_while_idle_is_replaced():
  job = (['2'], ['\\boxed{\\sqrt{4}}'])
  assert answer.verify(*job, timeout_s=30) == [C]
  for worker in pool._get().workers:
    if worker.process:
      worker.process.kill()
  assert answer.verify(*job, timeout_s=30) == [C]
  pool.shutdown()
  assert answer.verify(*job, timeout_s=30) == [C]


def test_without_workers_there_is_one_warning_and_no_wrong(monkeypatch, caplog):
  pool.shutdown()
  monkeypatch.setattr(sys, 'executable', '/nowhere/python')
  monkeypatch.setattr(pool, '_warned', set())
  with caplog.at_level(logging.WARNING):
    for _ in range(2):
      found = answer.verify(['2', '2'], ['\\boxed{\\sqrt{4}}', '2'])
      assert found == [U, C]
  assert len(caplog.records) == 1
  with pytest.raises(RuntimeError, match='Cannot check gold answers'):
    answer.check_gold('\\sqrt{2}')


SCRIPT = """
import sys
from rlvr_jax.verifiers import answer, dispatch
assert not {'jax', 'sympy', 'mpmath'} & set(sys.modules), 'slow import'
print('started')
print([int(v) for v in answer.verify(['2'], ['\\\\boxed{\\\\sqrt{4}}'], timeout_s=30)])
"""


@pytest.mark.parametrize('source', ['file', 'stdin'])
def test_a_script_without_main_guard_runs_once(tmp_path, source):
  path = tmp_path / 'script.py'
  path.write_text(SCRIPT)
  done = subprocess.run(
    [sys.executable, str(path) if source == 'file' else '-'],
    input=SCRIPT if source == 'stdin' else '',
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert (done.stdout, done.returncode) == ('started\n[0]\n', 0), done.stderr


def test_a_worker_imports_no_jax():
  code = (
    'import sys; from rlvr_jax.verifiers.maths import symbolic; '
    "print(symbolic.check('2', '\\\\sqrt{4}'), 'jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=300
  )
  assert done.stdout == 'correct False\n', done.stderr


@pytest.mark.parametrize(
  ('gold', 'text', 'right'),
  [
    ('1', '#### 1', False),
    ('18', 'thus\n#### 18\n', True),
    ('1', 'The answer is 1', False),
    ('1', 'The answer is 1,', False),
    ('1', 'The answer is 1.', True),
    ('1', 'The answer is **1', False),
    ('1', 'The answer is $1', False),
    ('1', 'The answer is $1$', True),
    ('1', 'The answer is 1 because of the', True),
    ('1', 'Final Answer\n\n1', False),
    ('1', '<answer>1', False),
    ('1', '<answer>1</answer>', True),
    ('1', '\\boxed{1', False),
    ('1', '\\boxed{1} and then some', True),
    ('1', '\\boxed{1}\n\nThe answer is 1', True),
    ('1', 'so it is 1.', False),
    ('A', 'Answer: A', False),
    ('A', 'Answer: A\n', True),
    ('\\sqrt{2}', 'The answer is \\sqrt{2}', False),
    ('\\sqrt{2}', 'The answer is $\\sqrt{2}$', True),
  ],
)
def test_a_mark_that_the_limit_cut_off_is_no_answer(gold, text, right):
  got = answer.verify([gold], [text], truncated=[True], timeout_s=30)
  assert (got == [enums.Verdict.CORRECT]) == right


def test_several_values_in_a_box_cast_one_vote():
  keys = {
    answer.canonical(f'\\boxed{{{x}}}')
    for x in ('x=1 or x=2', 'x = 2 \\text{ or } x = 1', '2, 1')
  }
  assert len(keys) == 1
  assert None not in keys


@pytest.mark.parametrize(
  ('gold', 'why'),
  [
    ('\\int_0^1 x dx', 'int, which is not supported'),
    ('\\lim_{x\\to 0} x', 'lim, which is not supported'),
    ('\\sum_{n=1}^\\infty 1/n^2', 'infinite .sum'),
    ('\\frac{d}{dx} x^2', 'derivative'),
  ],
)
def test_golds_with_unsupported_operations_are_refused_by_name(gold, why):
  with pytest.raises(ValueError, match=why):
    answer.check_gold(gold)

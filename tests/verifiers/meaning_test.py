"""Which answers mean the same as a gold answer.

Rows of meaning.jsonl: a gold answer, an answer, whether it is right. Near
misses are listed beside right answers; a competent grader accepts exactly the
rows that are right.
"""

import json
import pathlib

import pytest

from rlvr_jax import config_limits, enums
from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract

ROWS = pathlib.Path(__file__).with_name('meaning.jsonl')


def test_what_is_equal_is_correct_and_a_near_miss_is_not():
  rows = [json.loads(x) for x in ROWS.read_text('utf-8').splitlines()]
  assert len(rows) > 1600
  golds = [row['gold'] for row in rows]
  texts = [f'We obtain $\\boxed{{{row["answer"]}}}$.' for row in rows]
  verdicts = answer.verify(golds, texts, timeout_s=60)
  correct = enums.Verdict.CORRECT
  assert [
    r for r, v in zip(rows, verdicts) if (v == correct) != r['right']
  ] == []


@pytest.mark.parametrize(
  ('gold', 'box', 'usual', 'rules'),
  [
    ('0.1', '10\\%', True, {'percent': 'strict'}),
    ('10', '10\\%', True, {'percent': 'strict'}),
    ('\\sqrt{4}', '200\\%', True, {'percent': 'strict'}),
    ('\\sqrt{4}', '2\\%', True, {'percent': 'strict'}),
    ('1000', '1.000', False, {'thousands': 'european'}),
    ('1.5', '1,5', False, {'thousands': 'european'}),
    ('1234.5', '1.234,5', False, {'thousands': 'european'}),
    ('[0,1]', '[0;1]', True, {'semicolons': False}),
    ('(0,1]', '(0;1]', True, {'semicolons': False}),
    ('3:45', '1:15', False, {'ratios': 'scaled'}),
    ('2:4:6', '1:2:3', False, {'ratios': 'scaled'}),
    ('|x|', 'x', False, {'domain': 'positive'}),
    ('\\sqrt{\\frac1n}', '\\frac{1}{\\sqrt{n}}', True, {'domain': 'complex'}),
    ('\\pi', '3.1416', False, {'approximate': 1e-5}),
    ('\\pi', '3.141592653', True, {'approximate': 1e-12}),
  ],
)
def test_conventions_on_which_graders_differ(gold, box, usual, rules):
  texts = [f'\\boxed{{{box}}}']
  verdict = lambda rules: answer.verify(
    [gold], texts, timeout_s=60, rules=rules
  )
  changed = extract.RULES._replace(**rules)
  if (gold, rules) in (('0.1', {'percent': 'strict'}),) or box == '200\\%':
    assert verdict(extract.RULES) == verdict(changed) == [enums.Verdict.CORRECT]
    return
  assert (verdict(extract.RULES) == [enums.Verdict.CORRECT]) == usual
  assert (verdict(changed) == [enums.Verdict.CORRECT]) != usual


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('percent', 'both'),
    ('thousands', ''),
    ('semicolons', 'yes'),
    ('ratios', 'any'),
    ('domain', 'reals'),
    ('approximate', -1.0),
    ('approximate', float('nan')),
    ('approximate', 1.0),
  ],
)
def test_an_unknown_convention_is_refused(key, value):
  with pytest.raises(ValueError, match=f'verifier.{key}='):
    config_limits.check({f'verifier.{key}': value})


@pytest.mark.parametrize(
  ('gold', 'box', 'right'),
  [
    ('5,3', 'p=5, q=3', True),
    ('5,3', 'q=3, p=5', True),
    ('5,3', 'p=3, q=5', False),
    ('1,4', 'x_1=4, x_2=1', True),
    ('1,4', 'x=4 \\text{ or } x=1', True),
    ('2,7,9', 'a=2, b=7, c=9', True),
    ('2,7,9', 'a=7, b=2, c=9', False),
  ],
)
def test_names_order_the_values_of_a_list(gold, box, right):
  (got,) = answer.verify([gold], [f'\\boxed{{{box}}}'], timeout_s=60)
  assert (got == enums.Verdict.CORRECT) == right


@pytest.mark.parametrize('bound', ['≥ 5', '> 5', '\\ge 5', '<5', '5!'])
def test_a_bound_in_a_sentence_is_no_number(bound):
  text = f'The answer is ${bound}$'
  assert answer.verify(['5'], [text], timeout_s=60) != [enums.Verdict.CORRECT]

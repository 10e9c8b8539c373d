r"""The parser of mathematics: no text is evaluated, all work is bounded."""

import ast
import pathlib
import random

import pytest

from rlvr_jax.verifiers import answer, maths
from rlvr_jax.verifiers.maths import (
  notation,
  rationals,
  reader,
  symbolic,
  vote_keys,
)

PACKAGE = pathlib.Path(maths.__file__).parent
SOURCES = [
  *sorted(PACKAGE.glob('*.py')),
  PACKAGE.parent / 'answer.py',
  *(PACKAGE.parent / 'extraction').glob('*.py'),
]


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.stem)
def test_no_text_is_evaluated(path):
  tree = ast.parse(path.read_text())
  calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
  names = {getattr(c.func, 'id', getattr(c.func, 'attr', '')) for c in calls}
  assert not names & {
    *('eval', 'exec', '__import__', 'sympify', 'parse_expr', 'parse_latex'),
    *('literal_eval', 'mpmathify', 'loads', 'system', 'popen'),
  }
  # `compile` is of regular expressions only, and `import_module` of mpmath.
  for call in calls:
    if getattr(call.func, 'attr', getattr(call.func, 'id', '')) == 'compile':
      assert call.func.value.id == 're'
    if getattr(call.func, 'attr', '') == 'import_module':
      assert ast.literal_eval(call.args[0]) == 'mpmath'
    if (
      getattr(call.func, 'id', '') == 'getattr'
      and path.stem == 'numeric_values'
    ):
      assert getattr(call.args[0], 'id', '') == 'mp'
  modules = {
    alias.name.partition('.')[0]
    for node in ast.walk(tree)
    if isinstance(node, ast.Import)
    for alias in node.names
  }
  assert not modules & {'sympy', 'math_verify', 'os', 'subprocess', 'pickle'}


@pytest.mark.parametrize(
  'text',
  [
    "__import__('os').system('touch F')",
    'eval(1)',
    'x.__class__.__bases__',
    'exec("1")',
    '[x for x in (1,)]',
    'open(\'F\',"w")',
    '{{7*7}}x.y',
    '\\input{/etc/passwd}',
    '\\def\\x{5}\\x',
    'sqrt.__globals__',
  ],
)
def test_programs_are_no_mathematics(text):
  assert symbolic.check('5', text) in ('unreadable', 'wrong')
  assert symbolic.check(text, '5') == 'bad gold'


@pytest.mark.parametrize(
  'text',
  [
    '9^{9^{9^{9}}}',
    '2^{10^{7}}',
    '10^9!',
    '(((9!)!)!)!',
    '(10^6)!/x',
    '\\binom{10^9}{10^8}',
    '\\sum_{k=1}^{10^9} k',
    '\\sum_{k=1}^{9999} \\sum_{j=1}^{9999} j',
    '\\prod_{k=1}^{10^{20}} k',
    '\\sin(10^{10^{5}})',
    'e^{e^{e^{e^{e}}}}',
    '\\sqrt{' * 90 + '2' + '}' * 90,
    '(' * 400 + '1' + ')' * 400,
    '{' * 400 + '1' + '}' * 400,
    '|' * 900,
    '-' * 900 + '1',
    '2^' * 400 + '2',
    '1+' * 450 + '1',
    '\\frac1' * 150,
    '\\sqrt' * 190 + '2',
    '!' * 900,
    '5' + '!' * 900,
    '1,' * 450 + '1',
    'x=' * 450 + '1',
    '\\cup ' * 190,
    '1' * 900,
    '0.' + '3' * 900,
    '1e999',
    '\\begin{pmatrix}' * 50,
    '7' * 300 + '_{36}',
    '\\overline{' * 80,
    '\0',
    '\ud800',
    '',
    ' ',
    '=',
    '\\',
    ',',
  ],
)
def test_hostile_texts_are_bounded(text):
  for gold in ('5', 'x^2', '[1,2]', '\\sqrt{2}', '1,2'):
    assert symbolic.check(gold, text) in ('unreadable', 'wrong')
  assert symbolic.check(text, '5') in ('bad gold', 'unreadable', 'wrong')
  vote_keys.key(text)


def test_huge_numbers_are_exact_or_refused():
  value = lambda text: rationals.value(reader.read(text))
  assert value('2^{1000}') == 2**1000
  assert value('\\frac{1}{100!}') * value('100!') == 1
  assert value('1^{10^{9}}') == 1
  with pytest.raises(notation.Unreadable, match='too big'):
    value('2^{10^{7}}')
  with pytest.raises(notation.Unreadable, match='by zero'):
    value('\\frac{1}{2-2}')


def test_fuzz_gives_one_of_four_verdicts_and_always_the_same():
  rng = random.Random(0)
  atoms = [*'0123456789.,-+/%$ ()[]{}^_\\=<>|!:;xyznei&', '\\frac', '\\sqrt']
  atoms += ['\\{', '\\}', '\\text{ or }', '\\pm ', '\\cup ', '\\in ', '∪', '√']
  atoms += ['\\infty', '\\pi', '\\sum_{k=1}^', '\\begin{pmatrix}', '\\pmod ']
  atoms += ['\\end{pmatrix}', 'sqrt(', 'sin ', '\\overline{3}', '½', '²', '°']
  atoms += ['\\mathbb{R}', '\\setminus', '\\le ', '\\approx ', 'cm', '\\over ']
  golds = ['3', 'x^2', '(1,2)', 'x>2', '\\{1,2\\}', 'y=2x', '\\pm 3', '3:4']
  verdicts = {'correct', 'wrong', 'bad gold', 'unreadable'}
  for _ in range(400):
    text = ''.join(rng.choices(atoms, k=rng.randrange(1, 14)))
    gold = rng.choice(golds)
    for pair in ((gold, text), (text, gold)):
      verdict = symbolic.check(*pair)
      assert verdict in verdicts, text
      assert symbolic.check(*pair) == verdict
    assert vote_keys.key(text) == vote_keys.key(text)


@pytest.mark.parametrize(
  'gold',
  [
    *('n/a', 'N/A', 'TBD', 'tba', 'None', 'null', 'unknown', '?', '-', '...'),
    *('2026-11-25', '25/11/2026', '17 = 18', '3 = \\sqrt{2}', '3.14...'),
    *(
      '1,2,...,5',
      '1, 2, \\ldots',
      '\\cancel{5}',
      'apples',
      'see above',
      'red',
    ),
    *('\\frac{1}{0}', '\\frac{1}{', '5 5', '1 +', 'x \\approx', '102_2'),
    *('\\int_0^1 f', '\\sqrt{-}', '3 \\text{ if } x > 0', '[1,2', '()'),
    *('10^9!', '9^{9^{9^9}}', 'x \\approx 3', 'Paris', 'not 5', '#', 'f('),
  ],
)
def test_golds_that_cannot_be_used_are_refused_when_data_is_built(gold):
  with pytest.raises(ValueError, match='cannot be used'):
    answer.check_golds([gold])


def test_golds_in_plain_notation_are_read():
  answer.check_golds(
    [
      *(
        '2*pi*r',
        'ln(2)',
        '2**(1/4)',
        'sqrt(2)/2',
        'x^2+1',
        'exp(2)',
        'abs(x)',
      ),
      *(
        'Yes',
        'no',
        'True',
        'false',
        'A',
        '(B)',
        '\\text{none}',
        '\\text{n/a}',
      ),
      *('3*cos(pi*x/2)', 'x >= 2', '√2', 'x²', '¾', '2 1/2', '18_{16}', '5!'),
      *('-oo', 'infinity', 'x in [1,2]', '10 cm', '5 m/s', '$5', '50%', '3:45'),
      *('(1,2)', '[0;1]', '1011_2', 'm+n=70', 'x<1 or x>3', '±3', '∅', 'ℝ'),
    ]
  )


EQUAL = [
  ['\\dfrac{\\pi}{2}', '\\frac{\\pi}{2}', 'pi/2', 'x=\\frac{\\pi}{2}', 'π/2'],
  ['0.5', '1/2', '\\frac12', '50\\%', '.5', 'x = 0.50', '½'],
  ['x^2+1', '1+x^2', 'x**2 + 1', 'y = x^2+1'],
  ['\\{1,2\\}', '2,1'],
  ['(1,2)', '\\left(1, 2\\right)', '1<x<2', 'x \\in (1,2)'],
  ['[2,\\infty)', 'x \\ge 2', '2 \\le x'],
  ['(-\\infty,1)\\cup(3,\\infty)'],
  ['2\\sqrt{3}', '2\\sqrt 3', '\\sqrt{12}', '2√3', '2*sqrt(3)'],
  ['y=2x+1', '2x+1'],
  ['x+2y=3', '2x+4y=6', 'x+2y-3=0'],
  ['\\pm 3', '3,-3'],
  [
    '\\begin{pmatrix}1\\\\2\\end{pmatrix}',
    '\\begin{bmatrix}1\\\\2\\end{bmatrix}',
  ],
  ['24', '18_{16}', '4!'],
  ['R/r', '\\frac{R}{r}'],
  ['r/R', '\\frac{r}{R}'],
  ['50', '50.0'],
  ['\\emptyset', '\\{\\}', '\\varnothing'],
  ['\\infty', '+\\infty'],
  ['-\\infty'],
  ['1,2,3'],
  ['[1,2]', '1 \\le x \\le 2'],
  ['1+i', 'i+1'],
  ['5 \\pmod 7'],
  ['1:2'],
  ['\\text{red}', 'Red'],
  ['Yes', 'yes', '\\text{YES}'],
  ['(C)', 'c', '\\text{C}'],
]


def test_equal_answers_are_one_vote():
  keys = [{answer.canonical(f'\\boxed{{{x}}}') for x in same} for same in EQUAL]
  assert [(k, s) for k, s in zip(keys, EQUAL) if len(k) != 1 or None in k] == []
  assert len(set.union(*keys)) == len(EQUAL)

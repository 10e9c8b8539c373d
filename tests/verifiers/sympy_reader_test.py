"""Formulas are parsed without evaluating text, in the worker's checks too."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest
import sympy

import rlvr_jax
from rlvr_jax.verifiers import sympy_reader


@pytest.mark.parametrize(
  'text',
  [
    '1 + 2*3',
    '2**3**2',
    '-x**2',
    '2**-1',
    '(x + 1)*(x - 1)',
    '2*(x + 1)',
    '-3*x*sin(x)/4 - 9*cos(2*x) + C',
    '2*(-10*x - 10)**(3/2)/3 + C',
    'exp(x**2) + E**x + log(x)/pi',
    'x - - + x',
    '1/3 - 1/6',
    'sqrt(8) + asin(1)',
  ],
)
def test_it_reads_what_sympy_reads(text):
  assert sympy_reader.read(text) == sympy.parse_expr(text)


def test_decimals_are_exact():
  assert sympy_reader.read('0.1 + 0.2') == sympy.Rational(3, 10)
  assert sympy_reader.read('2.') == 2


@pytest.mark.parametrize(
  'text',
  [
    '',
    '2x',
    'x y',
    'x^2',
    'f(x)',
    'sin x',
    'x.y',
    'x[0]',
    '"x"',
    'x if x else y',
    'lambda: 0',
    'sin()',
    'sin(x, y)',
    '(x',
    'x)',
    '1..2',
    '1.2.3',
    '5!',
    '0x10',
    '10**10**10',
    '9**9**9',
    '2**20000',
    '(1/7)**999999',
    'x**1001',
    'pi**(10**9)',
    '(' * 60 + 'x' + ')' * 60,
    '-' * 60 + 'x',
    'x**' * 60 + 'x',
    '1' * 31,
    'x + ' * 300 + 'x',
    "__import__('os')",
    '__import__(os)',
    'x.__class__',
    'eval(x)',
  ],
)
def test_it_refuses_the_rest(text):
  with pytest.raises(ValueError):
    sympy_reader.read(text)


def test_division_by_zero():
  for text in '1/0', 'x/(x - x)', '0**-1':
    with pytest.raises(ZeroDivisionError):
      sympy_reader.read(text)


# The marks 7919 and qzx stand in every answer; no argument of eval, exec or
# compile may hold them.
HOOKED = r"""
import builtins, json, sys
from rlvr_jax.verifiers import sympy_reader, worker
warm = {'math': '', 'gym': 'simple_integration'}
for kind in warm:
  worker.KINDS[kind][0](warm[kind])
if sys.argv[1] == 'closed':
  sympy_reader.replace_sympys()
seen = set()
for name in 'eval', 'exec', 'compile':
  def hook(name, old):
    def hooked(*args, **options):
      if any(mark in str(args[0]) for mark in ('7919', 'qzx')):
        seen.add(name)
      return old(*args, **options)
    return hooked
  setattr(builtins, name, hook(name, getattr(builtins, name)))
import sympy
if sys.argv[1] == 'open':
  sympy.sympify('7919 + qzx')
else:
  import signal
  signal.alarm(200)
  assert sympy.sympify('7919') == sympy.Integer(7919)
  assert sympy.sympify('7919.5') == sympy.Float('7919.5')
  for text in "__import__('qzx')", 'qzx.real', '7919 if 1 else 2':
    for read in sympy.sympify, sympy.parse_expr:
      try:
        read(text)
      except (sympy.SympifyError, RuntimeError):
        continue
      raise SystemExit(f'read {text}')
  golds = ['2', 'x^2', '(1,2)', r'\{1,2\}', 'x=3', '1.5', r'\sqrt{2}']
  answers = [
    '7919', '-7919.5', r'\frac{7919}{2}', '7919^2', r'\sqrt{7919}', '7919qzx',
    '(7919, qzx)', r'\{7919, 1\}', 'x = 7919', '[7919, 7920)', '7919!', 'qzx',
    r'\begin{pmatrix}7919 & 1 \\ 2 & 3\end{pmatrix}', r'\text{qzx}',
    r'\gcd(7919, 4)', r'\max(7919, qzx)', 'f(7919)', r'qzx_{7919}', '7919%',
    r'7919 \pmod 3', r'\operatorname{eval}(7919)', r'\binom{7919}{2}',
    r'x < 7919', r'\int_0^{7919} x dx', r'\sum_{i=1}^{7919} i', '7919e2',
    "__import__('qzx').system('7919')", "open('qzx', 'w').write('7919')",
    r'\mathrm{exec}(qzx)', '{7919}', '7919,919', '7{,}919', "f'{7919}'",
  ]
  check = worker.KINDS['math'][1]
  for gold in golds:
    for answer in answers:
      try:
        check(gold=gold, answer=answer)
      except Exception:
        pass
  for name in 'simple_integration', 'polynomial_multiplication', 'puzzle24':
    entry = {
      'answer': 'x**2',
      'metadata': {'variable': 'x', 'integrand': '2*x', 'numbers': [1, 2]},
    }
    for answer in answers + ['7919*x', 'x**2 + 7919*qzx', 'sin(7919*x)/qzx']:
      worker.check_gym(name, entry, answer)
print(sorted(seen))
"""


@pytest.mark.parametrize(
  ('patched', 'found'), [('open', "['eval']"), ('closed', '[]')]
)
def test_no_answer_reaches_eval_exec_or_compile(patched, found):
  pytest.importorskip('reasoning_gym')
  done = subprocess.run(
    [sys.executable, '-W', 'ignore', '-c', HOOKED, patched],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.stdout == f'{found}\n', done.stderr


def test_no_file_of_ours_evaluates_text_or_loads_objects():
  wrong = []
  for path in pathlib.Path(rlvr_jax.__file__).parent.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      name = None
      if isinstance(node, ast.Call):
        name = getattr(node.func, 'id', None)
      elif isinstance(node, ast.Import | ast.ImportFrom):
        names = [a.name.split('.')[0] for a in node.names]
        names.append((getattr(node, 'module', '') or '').split('.')[0])
        bad = {'pickle', 'marshal', 'shelve', 'yaml', 'dill', 'joblib'}
        name = 'eval' if bad & set(names) else None
      if name in ('eval', 'exec', 'compile', '__import__'):
        wrong.append(path.name)
  # A config file is code: exec(compile(...)) of the file that a user names.
  assert wrong == ['config_file.py'] * 2

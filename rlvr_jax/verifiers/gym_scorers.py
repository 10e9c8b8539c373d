"""Which function scores an answer to a reasoning-gym task, without `eval`?

Several scorers of that package pass the answer to `eval` or to sympy's parser,
which evaluates it too. Each generator is therefore in one of three tables:
`OWN`
(its own scorer, which was reviewed and evaluates nothing), `READERS` (a scorer
written here), `REFUSED` (with the reason). The tables are valid for one version
of the package, identified by the digest of its source; any other is refused
until it is reviewed.

For an answer in the form that the question requests, a reader agrees with the
package's scorer, except where that scorer accepts wrong answers: puzzle24 must
use the numbers of its question, number_sorting the exact numbers (not within 1
of them), game_of_life_halting must give the right truth value,
polynomial_equations at least one number and nothing else, and letter_jumble no
extra words.
"""

import functools
import hashlib
import importlib
import importlib.util
import json
import math
import pathlib
import re
from collections.abc import Callable

from rlvr_jax import enums
from rlvr_jax.verifiers import countdown_expression, sympy_reader

VERSION = '0.1.25'
# Digest of the package's Python files, see `digest`.
DIGEST = 'dc4b6531183546ceb3d56a2e610220db33049530ee6af2cbd998ed81f95c145d'

_OWN = """
  ab acre advanced_geometry aiw arc_1d base_conversion basic_arithmetic bf
  binary_alternation caesar_cipher calendar_arithmetic chain_sum circuit_logic
  coin_flip color_cube_rotation complex_arithmetic count_bits count_primes
  course_schedule cryptarithm decimal_arithmetic decimal_chain_sum dice
  emoji_mystery family_relationships figlet_font fraction_simplification
  futoshiki game_of_life gcd group_anagrams gsm_symbolic isomorphic_strings
  jugs kakurasu knight_swap knights_knaves largest_island lcm leg_counting
  letter_counting list_functions mahjong_puzzle
  manipulate_matrix maze mini_sudoku modulo_grid needle_haystack
  number_filtering number_format number_sequence palindrome_generation
  palindrome_partitioning path_star pool_matrix power_function
  prime_factorization products quantum_lock ransom_note rectangle_count
  rotate_matrix rotten_oranges self_reference sentence_reordering
  shortest_path simple_equations simple_geometry sokoban spell_backward
  string_manipulation string_splitting string_synthesis sudoku survo
  syllogism time_intervals tower_of_hanoi tsumego word_ladder
  word_sequence_reversal word_sorting zebra_puzzles
"""
OWN = frozenset(_OWN.split())

_NO_ANSWER = 'it has no reference answer, which tasks here need'
_TRIP = 'its scorer does not accept its own answer after a trip through JSON'
REFUSED = {
  'arc_agi': _TRIP,
  'boxnet': _NO_ANSWER,
  'codeio': 'it executes programs written by a language model to make an item',
  'graph_color': _NO_ANSWER,
  'propositional_logic': _NO_ANSWER,
  'rearc': _TRIP,
  'rubiks_cube': _NO_ANSWER,
  'rush_hour': _NO_ANSWER,
}

_HEDGE = r"(?i:.*(?:\b(?:not|nor|or|never|no|either|neither)\b|n't\b))"
# The required form of an answer, for scorers of `OWN` that extract pieces from
# any text, or accept 'nan'.
_FORMS = {
  name: re.compile(form, re.DOTALL)
  for name, form in {
    'complex_arithmetic': r'[\d.eEijIJ+\-() ]+',
    'fraction_simplification': r'[\s$]*(?:\d+\s*/\s*\d+|'
    r'\\d?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\})[\s$.]*',
    # One number with its sign: gym's scorer takes the first digits of any text.
    'gsm_symbolic': rf'(?!{_HEDGE})[^\d\-\u2212(){{}}[\]]*\d[\d,]*(?:\.\d+)?[^\d(){{}}[\]]*',
    'kakurasu': r'[01\s,|\[\]]+',
    'knights_knaves': rf'(?!.*\w\()(?!{_HEDGE}).*',
    'quantum_lock': r'[A-Ca-c\s,→>\[\]-]+',
    'sokoban': r'[A-Z\s,]+',
    'survo': r'[-\d\s,|\[\]]+',
    'time_intervals': r'[\d.:,\s]+(?:days?[\d.:,\s]*)?',
  }.items()
}


def check(name: str) -> None:
  """Raises ValueError, with the reason, unless a generator is supported."""
  if name in OWN or name in READERS:
    return
  why = REFUSED.get(
    name, f'its scorer was not reviewed (only those of {VERSION} were)'
  )
  raise ValueError(
    f'reasoning_gym({name[:80]}) is refused: {why}. Choose another generator.'
  )


def check_package() -> None:
  """Raises ValueError unless the installed package is the reviewed one.

  Also if the package is not installed.
  """
  installed = digest()
  if installed != DIGEST:
    raise ValueError(
      f'The installed reasoning-gym is not {VERSION} (its source has the '
      f'digest {installed[:12]}, not {DIGEST[:12]}): its scorers were not '
      'reviewed, so they may evaluate model output. Install: pip install '
      f'reasoning-gym=={VERSION}'
    )


@functools.cache
def digest() -> str:
  """Returns a SHA-256 over the names and contents of the package's files.

  Raises:
    ValueError: reasoning-gym is not installed.
  """
  spec = importlib.util.find_spec('reasoning_gym')
  if spec is None or spec.origin is None:
    raise ValueError(
      "reasoning-gym is not installed: pip install 'rlvr_jax[gym]'."
    )
  root = pathlib.Path(spec.origin).parent
  total = hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    total.update(path.relative_to(root).as_posix().encode() + b'\0')
    total.update(hashlib.sha256(path.read_bytes()).digest())
  return total.hexdigest()


@functools.lru_cache(maxsize=128)
def scorer(name: str) -> Callable[[str, dict], float]:
  """Returns the function (answer, entry) -> score of a generator.

  A score of 1.0 is a correct answer; less is partial credit.

  Raises:
    ValueError: see `check` and `check_package`.
  """
  check(name)
  check_package()
  if name in READERS:
    if READERS[name] in (_expanded, _antiderivative):  # sympy is slow to load
      _antiderivative('x*sin(x)', _FIRST)
    return lambda answer, entry: float(READERS[name](answer, entry))
  gym = importlib.import_module('reasoning_gym')
  own = gym.create_dataset(name, size=1, seed=0).score_answer
  form = _FORMS.get(name)
  if form is None:
    return lambda answer, entry: float(own(answer, entry))
  return lambda answer, entry: (
    float(own(answer, entry)) if form.fullmatch(answer) else 0.0
  )


def _same(answer: str, entry: dict) -> bool:
  return answer.strip() == entry['answer'].strip()


def _same_word(answer: str, entry: dict) -> bool:
  return answer.strip(' .').lower() == entry['answer'].lower()


def _one_of(answer: str, entry: dict) -> bool:
  return answer in entry['metadata']['valid_answers']


def _integer(answer: str, entry: dict) -> bool:
  """Whether the integers are equal; the prefixes 0x, 0o, 0b are accepted."""
  try:
    return int(answer, 0) == int(entry['answer'], 0)
  except ValueError:
    return False


def _number_list(answer: str, entry: dict) -> bool:
  """Whether JSON lists of numbers (or numeric strings) are equal.

  Single quotes are accepted as double quotes.
  """

  def read(text: str) -> list[float]:
    values = json.loads(text.replace("'", '"'))
    if not isinstance(values, list):
      raise ValueError
    return [float(x) for x in values]

  try:
    return read(answer) == read(entry['answer'])
  except (ValueError, TypeError, OverflowError, RecursionError):
    return False


def _real_roots(answer: str, entry: dict) -> bool:
  """Whether comma-separated numbers agree within 0.001, in any order."""

  def read(text: str) -> list[float]:
    parts = [p.strip() for p in text.strip('" ').split(',') if p.strip()]
    return sorted(float(p) for p in parts)

  try:
    roots, gold = read(answer), read(entry['answer'])
  except ValueError:
    return False
  return 0 < len(roots) == len(gold) and all(
    math.isfinite(a) and abs(a - b) <= 1e-3 for a, b in zip(roots, gold)
  )


def _reaches(answer: str, entry: dict, target: int | None = None) -> bool:
  """Whether an expression uses the task's numbers and reaches the target."""
  data = entry['metadata']
  target = data['target'] if target is None else target
  verdict = countdown_expression.verify(
    data['numbers'], target, f'<answer>{answer}</answer>'
  )
  return verdict == enums.Verdict.CORRECT


def _expanded(answer: str, entry: dict) -> bool:
  """Whether it is the same polynomial, expanded; sympy expands no products."""
  try:
    polynomial = sympy_reader.read(answer)
  except (ValueError, ZeroDivisionError):
    return False
  return bool(polynomial == sympy_reader.read(entry['answer']))


def _antiderivative(answer: str, entry: dict) -> bool:
  """Whether the derivative of a formula simplifies to the integrand.

  The reference itself is accepted too, since it may contain an integral without
  a closed form.
  """
  if _same(answer, entry):
    return True
  sympy = importlib.import_module('sympy')
  data = entry['metadata']
  try:
    formula = sympy_reader.read(answer)
  except (ValueError, ZeroDivisionError):
    return False
  slope = sympy.diff(formula, sympy.Symbol(data['variable']))
  return bool(sympy.simplify(slope - sympy_reader.read(data['integrand'])) == 0)


# A first task for `_antiderivative`, which loads what sympy needs.
_FIRST = {'answer': '', 'metadata': {'variable': 'x', 'integrand': 'x**2'}}

READERS = {
  'binary_matrix': _same,
  'bitwise_arithmetic': _integer,
  'countdown': _reaches,
  'game_of_life_halting': _same_word,
  'intermediate_integration': _antiderivative,
  'letter_jumble': _same_word,
  'n_queens': _one_of,
  'number_sorting': _number_list,
  'polynomial_equations': _real_roots,
  'polynomial_multiplication': _expanded,
  'puzzle24': functools.partial(_reaches, target=24),
  'simple_integration': _antiderivative,
  'spiral_matrix': _same,
  'string_insertion': _same,
}

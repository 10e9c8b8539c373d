r"""Do two answers in words agree: yes and no, names, the letter of a choice?"""

import re

KNOWN = frozenset({'yes', 'no', 'true', 'false'})
OPPOSITE = {'yes': 'no', 'no': 'yes', 'true': 'false', 'false': 'true'}
# Placeholders for a missing answer.
MISSING = frozenset(
  [
    'nan',
    '-nan',
    '+nan',
    'inf',
    '-inf',
    '+inf',
    'none',
    'null',
    'nil',
    'n/a',
    'na',
    '#n/a',
    'tbd',
    'tba',
    'tbc',
    'todo',
    'unknown',
    'unanswerable',
    'undefined',
    '?',
    '??',
    '-',
    '--',
    '...',
    '…',
  ]
)
# Phrases that mean a mathematical object, by `key`: their LaTeX.
MEANT = {
  **dict.fromkeys(
    ('allrealnumbers', 'allreals', 'anyrealnumber', 'therealnumbers'),
    '\\mathbb{R}',
  ),
  **dict.fromkeys(
    ('nosolution', 'nosolutions', 'norealsolution', 'norealsolutions',
     'emptyset', 'theemptyset', 'nosolutionexists', 'nosolutionsexist',
     'norealsolutionexists', 'norealsolutionsexist', 'thereisnosolution',
     'therearenosolutions', 'therearenorealsolutions',
     'thereisnorealsolution', 'hasnosolution', 'nosuchx'),
    '\\emptyset',
  ),
  'infinity': '\\infty',
}  # fmt: skip
LETTERS = 'A-J'  # letters of multiple choice
UPRIGHT = re.compile(
  r'\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mbox|'
  r'hbox|boldsymbol|bm|underline|emph|operatorname) ?\{([^{}]*)\}'
)
_SPACES = re.compile(r'\\[,;:! ]|\\q?quad(?![a-z])|[\s~]+')
_LETTER = re.compile(r'\(?([A-Za-z])\)?[.)]?')
# (E) 12, E. a stable isotope, option B, A, not C, C because ...
_CHOICE = re.compile(
  rf'(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? )?(?:'
  rf'\(([{LETTERS}])\)|([{LETTERS}])(?:[.):]+(?= |$)|(?=,? (?:not|because|since|as)\b)|$))'
  r'[ ,:]*(?P<rest>.*)',
  re.DOTALL,
)
_ANOTHER = re.compile(
  rf'(?:^|[\s,/&(]|\bor |\band )\(?[{LETTERS}](?:[.):]|(?=[\s,/&)]|$))'
)


def bare(text: str) -> str:
  """Returns the words without the LaTeX and Markdown around them."""
  for _ in range(3):
    text = UPRIGHT.sub(r'\1', text)
  text = _SPACES.sub(' ', text.replace('{', '').replace('}', ''))
  return text.strip().strip('*_`.').strip()


def key(text: str) -> str:
  """Returns the words without case, spaces and brackets around a letter.

  Two answers in words are compared by this key.
  """
  words = ''.join(bare(text).split()).casefold()
  return words[1:-1] if re.fullmatch(r'\(\w\)', words) else words


def choice(text: str) -> str | None:
  """Returns the letter of a choice, as a capital; None if several are named."""
  text = bare(text)
  if match := _LETTER.fullmatch(text):
    return match[1].upper()
  match = _CHOICE.fullmatch(text)
  if match is None:
    return None
  rest = re.sub(rf'\bnot \(?[{LETTERS}]\)?', '', match['rest'])
  if _ANOTHER.search(re.sub(r'^[Aa] (?=[a-z])', '', rest)):
    return None
  return match[1] or match[2]


def same(gold: str, answer: str) -> bool:
  """Whether an answer has the words of the gold answer (a `key`)."""
  if key(answer) == gold:
    return True
  if re.fullmatch(rf'[{LETTERS}]', gold.upper()):
    return choice(answer) == gold.upper()
  if gold in KNOWN:  # 'No, there are none'
    words = bare(answer).casefold()
    first = re.match(rf'{gold}\b[,.;:!]', words)
    return bool(first) and not re.search(rf'\b{OPPOSITE[gold]}\b', words)
  return False


_UNITS = [
  'zero',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
  'ten',
  'eleven',
  'twelve',
  'thirteen',
  'fourteen',
  'fifteen',
  'sixteen',
  'seventeen',
  'eighteen',
  'nineteen',
]
_TENS = [
  'twenty',
  'thirty',
  'forty',
  'fifty',
  'sixty',
  'seventy',
  'eighty',
  'ninety',
]
_SCALES = {'thousand': 1000, 'million': 10**6, 'billion': 10**9}
_NUMERALS = {w: i for i, w in enumerate(_UNITS)} | {
  w: 10 * i for i, w in enumerate(_TENS, 2)
}


# A numeral in words at the start of a sentence, with at most one unit.
NUMERAL = re.compile(
  rf'((?:(?:{"|".join(sorted(_NUMERALS, key=len, reverse=True))}|hundred|'
  r'thousand|million|billion)\b(?:[ -](?:and )?(?=[a-z]))?){1,12})'
  r'(?<![ -])(?: (?![a-z]*(?:th|ths|thirds?|half|halves|quarters?|percent|dozen|'
  r'squared|cubed|factorial|more|less|times|plus|minus|point|over|and|mod)\b)'
  r'[a-z]{3,15})?\.?(?=$|,? (?:since|because|as)\b)',
  re.IGNORECASE,
)


def numeral(text: str) -> int | None:
  """Returns a number below 10^12 that is written in words, else None.

  Reads 'seventy-two', 'one hundred and five', also 'seventy-two (72)' and 'six
  apples'.
  """
  text = bare(text[:200]).casefold()
  with_unit = NUMERAL.fullmatch(text)
  text = with_unit[1] if with_unit else text
  match = re.fullmatch(r'([a-z -]+?)(?: ?\((\d{1,6})\))?', text)
  if match is None:
    return None
  total = group = 0
  last, scale = None, 10**12
  for word in match[1].replace('-', ' ').split():
    if word in _NUMERALS:
      value = _NUMERALS[word]
      # sixty two, but not two sixty
      if last in _NUMERALS and not (_NUMERALS[last] >= 20 and 0 < value < 10):
        return None
      group += value
    elif word == 'hundred' and 0 < group < 10:
      group *= 100
    elif _SCALES.get(word, scale) < scale and 0 < group < 1000:
      scale = _SCALES[word]
      total, group = total + group * scale, 0
    elif word != 'and' or last not in ('hundred', *_SCALES):
      return None
    last = word
  if (
    last is None
    or last == 'and'
    or (match[2] and int(match[2]) != total + group)
  ):
    return None
  return total + group

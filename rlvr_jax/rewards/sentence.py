r"""What a sentence that was marked as the answer says.

Spans in, spans out: every function is given where to read in a text, and
gives where in the same text the answer stands. Time is linear in what is read.
"""

import re
from typing import NamedTuple

from rlvr_jax.rewards import numbers
from rlvr_jax.rewards.spans import (
  DECORATION,
  FUNCTIONS,
  PROSE,
  Span,
  formulas,
  stands,
  trim,
  without_text,
)


class Sought(NamedTuple):
  """What sort of answer would do; a plain formula where nothing is set."""

  numeric: bool = False
  choice: bool = False  # a letter, A to J
  words: bool = False
  several: bool = False  # a set or a list of values


class Said(NamedTuple):
  """What a sentence says. `span` None: it is no single answer (a hedge)."""

  span: Span | None
  clean: bool = True  # the answer is all that the sentence says
  text: str | None = None  # of a list: its values, joined by commas


_SYMBOLIC = re.compile(r'[\\^*({\[<>√π∞]|\bsqrt\b|\bpi\b')
# Where what is said ends and a reason or a remark begins.
_CLAUSE = re.compile(
  r',?\s+(?:since|because|as|(?<!or )so|which|where|when|for|given|if|but|rather|after|'
  r'per|in total|altogether|that is|i\.e|hence|thus|therefore|and (?:the|so|'
  r'this|it|we|that)|with|not)\b|,\s+(?!or\b|and\b)(?=[A-Za-z]{2})|\s+[—–]\s+'
  rf'|\s+\((?=[^()\\\n]{{0,60}}\b(?!{FUNCTIONS})(?:an? |[A-Za-z]{{3}}))'
  rf'|\s+-\s+(?!{FUNCTIONS})(?=[A-Za-z]{{3}})',
  re.IGNORECASE,
)
_LEAD = re.compile(
  r'(?:(?:therefore|thus|then|simply|just|exactly|precisely|equal|to|given|by|'
  r'clearly|indeed|hence|also|actually|now|that|definitely|surely|both|either|'
  r'probably|likely|:)[\s,:*]+){1,4}',
  re.IGNORECASE,
)
_UNITS = re.compile(r'\s+[A-Za-z]{3,20}(?:\s+[A-Za-z]{2,20}){0,3}$')
_ALTERNATIVE = re.compile(
  r'(?<![\\\w])or\b|\\lor(?![a-z])|\\vee(?![a-z])|∨', re.IGNORECASE
)
# Words that make of a number less than an answer. Before it:
_UNSURE = re.compile(
  r'(?<![\\\w])(?:either|neither|nor|between|not|isn[\'’]t|anywhere|about|'
  r'approximately|approx|roughly|around|nearly|almost|at (?:least|most)|'
  r'(?:less|more|fewer|greater|larger|smaller|other|higher|lower) than|up to|'
  r'unlikely|anything but|below|above|under|beyond|one of)\b|≈|\\approx(?![a-z])',
  re.IGNORECASE,
)
# After it, or anywhere:
_OPEN_END = re.compile(
  r'\bor (?:more|less|fewer|greater|higher|lower|so|something|another)\b'
  r'|\d\s*(?:to|through)\s+\$?\d|\bis (?:wrong|incorrect|not (?:right|correct))'
  r'|\b(?:cannot|can[\'’]?t|can not) (?:tell|say|be)\b',
  re.IGNORECASE,
)
# 'x = 5, y = 6': two values.
_TWO_NAMED = re.compile(
  r'[A-Za-z]\w{0,2}\s*=[^=]{1,80}(?:,|;|\band\b)\s*[A-Za-z]\w{0,2}\s*='
)
_NOTHING = re.compile(
  r'\W*(?:unknown|undetermined|indeterminate|impossible|undefined|none|nothing|'
  r'missing|not (?:known|given|defined|possible))\b',
  re.IGNORECASE,
)
_MINUS = re.compile(r'(?:negative|minus)\s+(?=\d)', re.IGNORECASE)
_AND = re.compile(r'\s*(?:,|;|&|and|,\s*and)\s*(?:also\s+)?', re.IGNORECASE)
_LIST = re.compile(
  r'\s*\\(?:text|mathrm|textrm|mbox)\{[\s,]*(?:or|and)[\s,]*\}\s*'
  r'|(?:,\s*)?(?<![\\\w])(?:or|and)(?![\w])\s*|\s*\\(?:lor|land|vee|wedge)'
  r'(?![a-zA-Z])\s*|\s*[∨∧;]\s*',
  re.IGNORECASE,
)
_LABEL = re.compile(
  r'(?:\\(?:text|textbf|mathrm|mathbf|mbox)\{)?(?:\([A-J]\)|[A-J][).:])'
  r'[}\s\\:.]{1,4}'
)
_CHOICE = re.compile(
  r'(?i:(?:(?:the|is|that|it|indeed|clearly|therefore|thus|simply|so)\s+){0,3}'
  r'(?:(?:correct|right|best|final|must|be)\s+){0,3}(?:\\text\w{0,2}\{\s?)?'
  r'(?:(?:option|choice|letter|answer|statement)\b\s*(?:is\s)?[:\s]*)?)'
  r'(?P<open>[\s*_`"\'(\[{$“]|\\(?:text|textbf|textit|mathrm|mathbf|mathbf|'
  r'mbox|boxed|bf|rm|\()\s?){0,8}(?P<letter>[A-Ja-j])(?![A-Za-z0-9_^\'’])',
)
# What may follow the letter without a bracket or a full stop.
_AFTER_LETTER = re.compile(
  r'(?:\s+(?:because|since|as|which|that|with|by|from|due|given|where|is|'
  r'if|when|not|rather|only|and (?:not|the|this|so|it))\b|\s*[,;]|\s+[—–-]\s|\s+\('
  r'|\s*$)',
  re.IGNORECASE,
)
_ANOTHER = re.compile(
  r'[\s*_`"\')\]}$.]{0,6}(?:/|,|;|\||&|\+|or|and|\\text\{\s*(?:or|and)\s*\})'
  r'(?:[\s*_`"\'(\[{$]|\\(?:text|textbf|mathrm)\{|option|choice|maybe|possibly|'
  r'perhaps|even|either){0,6}(?<![A-Za-z])[A-J](?![A-Za-z])(?!\s+(?:is|was))'
)
# '\\text{The answer is } 6' within a box.
_TEXT_LEAD = re.compile(
  r'\\(?:text|mathrm|textrm|textbf|mbox)\{[^{}]{0,40}\banswer(?: is| ?:)[\s:]*\}'
  r'[\s\\]*',
  re.IGNORECASE,
)
_CALCULATOR = re.compile(r'\$?<<[^<>\n]{0,80}>>')  # of GSM8K: <<3*4=12>>12
_BOX = re.compile(r'\$*\\(?:boxed|fbox)\{')
_BARE_LIST = re.compile(r'[-−\d.,/\s]+')


def sought(gold: str, *, numeric: bool, words: str | None) -> Sought:
  r"""What the gold answer asks for.

  Args:
    gold: its LaTeX.
    words: what it says, where it is `\text{...}`.
  """
  if numeric:
    return Sought(numeric=True)
  letter = gold if words is None else words.upper()
  if re.fullmatch(r'\(?[A-J]\)?', letter):
    return Sought(choice=True)
  if words is not None:
    return Sought(words=True)
  return Sought(several=_is_list(gold))


def _is_list(gold: str) -> bool:
  """Whether a gold has several values: 1,2 or a set; no pair or interval."""
  if re.match(r'(?:\\left\s?)?\\\{', gold) or re.search(r'\\pm(?![a-z])', gold):
    return True
  depth = 0
  for c in re.sub(r'\d,(?=\d{3}(?!\d))|\{,\}', '', _LIST.sub(',', gold)):
    depth += (c in '([{') - (c in ')]}')
    if c == ',' and depth <= 0:
      return True
  return False


def read(text: str, span: Span, sought: Sought, first: bool = False):
  """The `Said` of a statement such as '18 dollars for 7 days', or None.

  None: the words do not say an answer of that sort ('is clear').

  Args:
    first: of a hedge such as '3 or 5', take the first number.
  """
  span = trim(text, span, '.,;:')
  if span[0] >= span[1]:
    return None
  if done := _CALCULATOR.match(text, *span):
    span = done.end(), span[1]
  if box := _BOX.match(text, *span):
    close = text.rfind('}', box.end(), span[1])
    span = trim(text, (box.end(), close if close >= 0 else span[1]))
  if sought.choice:
    found = choice(text, span)
    if found is not None:
      return found
    plain = PROSE.search(text[slice(*span)])
    return None if plain else Said(span)
  if sought.words:
    return _words(text, span)
  if sought.several:
    return _several(text, span)
  return _single(text, span, sought, first)


def content(text: str, span: Span, sought: Sought, first: bool = False) -> Said:
  """What a box holds: all of it, unless it hedges or names a choice."""
  if lead := _TEXT_LEAD.match(text, *span):
    span = trim(text, (lead.end(), span[1]))
  inside = text[slice(*span)]
  if sought.choice:
    return choice(text, span) or Said(span)
  if sought.several:
    return Said(span, text=listed(inside))
  if sought.words:
    return Said(span)
  label = _LABEL.match(inside)
  if label and sought.numeric and label.end() < len(inside):
    rest = span[0] + label.end(), span[1]
    if numbers.read(text[slice(*rest)].strip('}')) is not None:
      span = trim(text, rest, '}')
      inside = text[slice(*span)]
  if _hedged(inside, ''):
    return _first(text, span) if first else Said(None)
  return Said(span)


def choice(text: str, span: Span) -> Said | None:
  """The letter that an answer such as 'option B' or '(B) 12' names."""
  match = _CHOICE.match(text, *span)
  if match is None:
    return None
  at, inside = match.span('letter'), text[span[0] : match.start('letter')]
  rest = text[at[1] : span[1]]
  if _ANOTHER.match(rest):
    return Said(None)
  bracket = re.match(r'[\s*_`"\'$]{0,4}[)\]}.:]', rest)
  bare = rest.strip(DECORATION + '.$})]\\') == ''
  if text[at[0]].islower() and not (bare or inside.rstrip().endswith('(')):
    return None
  if bare or bracket or _AFTER_LETTER.match(rest):
    return Said(at)
  return None


def listed(values: str) -> str:
  r"""'3 \text{ or } 5' as '3, 5'."""
  return _LIST.sub(', ', values).replace(', , ', ', ').strip()


def _words(text, span):
  lead = _LEAD.match(text, *span)
  start = lead.end() if lead else span[0]
  cut = _CLAUSE.search(text, start, span[1])
  end = cut.start() if cut and cut.start() > start else span[1]
  found = trim(text, (start, end), '.,;:')
  return Said(found) if found[0] < found[1] else None


def _clause(text, span, inner):
  """Up to where a reason begins, if a number or a formula precedes it."""
  for cut in _CLAUSE.finditer(text, *span):
    if any(a - 2 <= cut.start() < b for a, b in inner):
      continue
    head = text[span[0] : cut.start()]
    if re.search(r'\d', head) or _SYMBOLIC.search(head) or '$' in head:
      return span[0], cut.start()
    if re.fullmatch(r'\W*[A-Za-z]\W*', head):  # a symbol
      return span[0], cut.start()
  return span


def _several(text, span):
  inner = formulas(text, span)
  span = _clause(text, span, inner)
  inner = [s for s in inner if s[0] < span[1]]
  lead = _LEAD.match(text, *span)
  start = lead.end() if lead else span[0]
  if inner:
    joined = ', '.join(text[slice(*s)] for s in inner)
    return Said((inner[0][0], inner[-1][1]), text=listed(joined))
  inside = text[start : span[1]]
  values = listed(inside)
  if PROSE.search(without_text(values)) or not re.search(r'[\d\\a-z]', values):
    return None
  return Said((start, span[1]), text=values)


def _single(text, span, sought, first):
  whole = text[slice(*span)]
  if sought.numeric and (_NOTHING.match(whole) or _TWO_NAMED.search(whole)):
    return Said(None)
  if numbers.read(whole) is not None:
    return Said(span)
  label = _LABEL.match(whole)
  if label and label.end() < len(whole):
    rest = span[0] + label.end(), span[1]
    if sought.numeric and numbers.read(text[slice(*rest)]) is not None:
      return Said(rest)
  inner = formulas(text, span)
  said = _clause(text, span, inner)
  clause = text[slice(*said)]
  before = re.search(r'[\d$]|\\[([a-z]', clause)
  before = clause[: before.start()] if before else clause
  bound = sought.numeric and re.match(r'[≥≤<>]|\\[gl]eq?(?![a-z])', clause)
  if bound or _hedged(clause, before):
    return _first(text, said) if first else Said(None)
  inner = [s for s in inner if s[0] < said[1]]
  if inner:
    return _formula(text, said, inner)
  if numbers.read(clause) is not None:
    return Said(said)
  return _plain(text, said, sought) or _rest(text, said, span, sought)


def _formula(text, said, inner):
  """The one formula of a clause; of several that are equal, the last."""
  found = inner[0]
  for one in inner[1:]:
    gap = text[found[1] : one[0]].strip('$\\()[] ')
    if _AND.fullmatch(gap):
      return Said(None)  # two answers
    found = one
  around = text[said[0] : inner[0][0]] + text[inner[-1][1] : said[1]]
  return Said(found, clean=not re.search(r'\d', around))


def _plain(text, span, sought):
  """The answer in a clause without formulas."""
  lead = _LEAD.match(text, *span)
  span = trim(text, (lead.end() if lead else span[0], span[1]), '.,;:')
  clause = text[slice(*span)]
  if minus := _MINUS.match(clause):
    return Said(span, text='-' + clause[minus.end() :])
  if numbers.read(clause) is not None:
    return Said(span)
  left, equals, right = clause.rpartition('=')
  if equals and sought.numeric:
    at = trim(text, (span[1] - len(right), span[1]))
    value = numbers.read(text[slice(*at)])
    was = numbers.read(left.rpartition('=')[2])
    if was is not None and value is not None and was.value != value.value:
      return Said(span)  # 17 = 18: not its last part
    if value is not None:
      return Said(at)
    if right.strip():
      return _plain(text, at, sought)
  if _BARE_LIST.fullmatch(clause) and re.search(r'\d', clause):
    return Said(span)
  if _SYMBOLIC.search(clause) or not re.search(r'\d', clause):
    units = _UNITS.search(clause)
    if units and not re.search(rf'\b{FUNCTIONS}', units[0]):
      span = trim(text, (span[0], span[0] + units.start()))
      clause = text[slice(*span)]
    prose = PROSE.search(without_text(clause))
    return None if prose or not clause else Said(span)
  values = list(numbers.FIND.finditer(clause))
  alone = [m for m in values if stands(clause, m.start(), m.end())]
  if len(alone) != len(values) or not values:
    return None if PROSE.search(clause) else Said(span)
  here = lambda m: (span[0] + m.start(), span[0] + m.end())
  if len({m[0] for m in values}) == 1:
    return Said(here(values[0]), clean=False)
  between = clause[values[0].end() : values[1].start()]
  other = re.search(r'\b(?:and|to|or|vs|versus)\b|[,|]', between)
  if values[0].start() == 0 and not other:
    return Said(here(values[0]), clean=False)
  return None


def _rest(text, said, span, sought):
  """'seventy-two (72)', 'the number of apples, which is 7'."""
  rest = text[said[1] : span[1]] if said != span else text[slice(*span)]
  if not sought.numeric or (
    re.search(r'\d', text[slice(*said)]) and said != span
  ):
    return None
  values = list(numbers.FIND.finditer(rest))
  offset = span[1] - len(rest)
  if len(values) != 1 or not stands(rest, *values[0].span()):
    return None
  return Said(
    (offset + values[0].start(), offset + values[0].end()), clean=False
  )


def _first(text, span):
  match = numbers.FIND.search(text, *span)
  return Said(match.span()) if match else Said(None)


def _hedged(clause: str, before: str) -> bool:
  """Whether a clause leaves open which value is meant.

  Args:
    before: the part in front of the first number.
  """
  if _UNSURE.search(before) or _OPEN_END.search(clause):
    return True
  bare = re.sub(r'\\(?:text|mathrm|textrm|mbox)\{([^{}]*)\}', r' \1 ', clause)
  if before == '' and _UNSURE.match(bare.strip(' ~')):
    return True
  parts = [p.strip(' ,$') for p in _ALTERNATIVE.split(bare)]
  if len(parts) > 1 and parts[0].endswith('('):  # 1/2 (or 0.5)
    parts = [p.strip(' ,$()') for p in parts]
  if len(parts) < 2 or not any(re.search(r'[\d\\]', p) for p in parts[1:]):
    return len(parts) > 1 and not re.search(r'\d', parts[0])
  try:
    values = [numbers.read(p) for p in parts]
  except numbers.TooLong:
    return True
  return None in values or any(
    not numbers.equal(values[0], v) for v in values[1:]
  )

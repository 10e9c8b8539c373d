r"""Which answer does a sentence give that is marked as the answer?

Spans in, spans out: every function takes the span of a text to read, and
returns where in the same text the answer is. Time is linear in the length of
the span.
"""

import re

from rlvr_jax.verifiers.extraction import answer_words, letters, numbers, spans
from rlvr_jax.verifiers.extraction.spans import Expected, Span, Statement

_SYMBOLIC = re.compile(r'[\\^*({\[<>√π∞!]|\bsqrt\b|\bpi\b')
# Where the answer ends and a reason or a remark begins.
_CLAUSE = re.compile(
  r',?\s+(?:since|because|as|(?<!or )so|which|where|when|for|given|if|but|rather|after|'
  r'and (?=\S{1,20} is (?:extraneous|rejected|invalid|discarded|not valid|impossible))|'
  r'per|in total|altogether|that is|i\.e|hence|thus|therefore|and (?:the|so|'
  r'this|it|we|that)|with|not)\b|,\s+(?!(?:or|and|possibly|maybe|perhaps)\b)(?=[A-Za-z]{2})|\s+[—–]\s+'
  rf'|\s+\((?!or\b)(?=[^()\\\n]{{0,60}}\b(?!{spans.FUNCTIONS})(?:an? |[A-Za-z]{{3}}))'
  rf'|\s+-\s+(?!{spans.FUNCTIONS})(?=[A-Za-z]{{3}})',
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
# Words that make a number uncertain. Before it:
_UNSURE = re.compile(
  r'(?<![\\\w])(?:either|neither|nor|between|not|isn[\'’]t|anywhere|about|'
  r'approximately|approx|roughly|around|nearly|almost|at (?:least|most)|'
  r'(?:less|more|fewer|greater|larger|smaller|other|higher|lower) than|up to|'
  r'unlikely|anything but|below|above|under|beyond|one of)\b|≈|\\approx(?![a-z])',
  re.IGNORECASE,
)
_ABOUT = re.compile(
  r'(?:approximately|approx\.?|about|roughly|≈|\\approx(?![a-z]))\s*',
  re.IGNORECASE,
)
_COMPARED = re.compile(r'[<>≤≥≠]|\\(?:geq?|leq?|gt|lt|neq?)(?![a-zA-Z])')
# After it, or anywhere:
_OPEN_END = re.compile(
  r'\bor (?:more|less|fewer|greater|higher|lower|so|something|another)\b'
  r'|,\s*(?:possibly|maybe|perhaps)\s+(?:it is )?\$?\d|\bunless\b'
  r'|\d\s*(?:to|through)\s+\$?\d|\bis (?:wrong|incorrect|not (?:right|correct))'
  r'|\b(?:cannot|can[\'’]?t|can not) (?:tell|say|be)\b',
  re.IGNORECASE,
)
# 'x = 5, y = 6': two values.
_TWO_NAMED = re.compile(
  r'[A-Za-z]\w{0,2}\s*=[^=]{1,80}(?:,|;|\band\b)\s*[A-Za-z]\w{0,2}\s*='
)
# 'not 4 but 6'
_NOT_BUT = re.compile(
  r'not\s+[^.;\n]{1,60}?,?\s+but\s+(?:rather\s+|instead\s+)?', re.IGNORECASE
)
# Two values, each under a condition; a value that is retracted.
_TAKEN_BACK = re.compile(
  r'\b(?:otherwise|else)\b|\bpart\b[^\n]{1,60}\bpart\b|\((?:wrong|incorrect|(?:in )?base)\b|'
  r'\bcan(?:not| not|[\'’]t) be (?:right|correct|true)\b|\bbut (?:now |actually |then )?'
  r'(?:it|that|this|the answer)\b[^.\n\d]{0,20}\d|\b(?:for|if|when) (?:[a-z$]{1,3} (?:is )?)?(?:even|odd)\b|'
  r'\b(?:but|though|although|which|however)\b[^.\n]{0,20}?(?:[\'’]s| is| was) '
  r'(?:[a-z]{1,10} )?(?:wrong|incorrect|not (?:right|correct|true))\b',
  re.IGNORECASE,
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
# '\\text{The answer is } 6' inside a box.
_TEXT_LEAD = re.compile(
  r'\\(?:text|mathrm|textrm|textbf|mbox)\{[^{}]{0,40}\banswer(?: is| ?:)[\s:]*\}'
  r'[\s\\]*',
  re.IGNORECASE,
)
_CALCULATOR = re.compile(r'\$?<<[^<>\n]{0,80}>>')  # GSM8K: <<3*4=12>>12
_BOX = re.compile(r'\$*\\(?:boxed|fbox)\{')
_BARE_LIST = re.compile(r'[-−\d.,/\s]+')


def expected_form(gold: str, *, numeric: bool, words: str | None) -> Expected:
  r"""Returns the form of answer that a gold answer calls for.

  Args:
    gold: the gold answer in LaTeX.
    numeric: whether it is a plain number.
    words: its words, if it is `\text{...}`.
  """
  if numeric:
    return Expected(numeric=True)
  letter = gold if words is None else words.upper()
  if re.fullmatch(r'\(?[A-J]\)?', letter):
    return Expected(choice=True)
  if words is not None:
    return Expected(words=True)
  return Expected(several=_is_list(gold))


def _is_list(gold: str) -> bool:
  """Whether a gold answer has several values: 1,2 or a set, but no pair."""
  if re.match(r'(?:\\left\s?)?\\\{', gold) or re.search(r'\\pm(?![a-z])', gold):
    return True
  depth = 0
  for c in re.sub(r'\d,(?=\d{3}(?!\d))|\{,\}', '', _LIST.sub(',', gold)):
    depth += (c in '([{') - (c in ')]}')
    if c == ',' and depth <= 0:
      return True
  return False


def read(
  text: str, span: Span, expected: Expected, first: bool = False
) -> Statement | None:
  """Returns the answer in a sentence such as '18 dollars for 7 days'.

  None if the words contain no answer of the expected form ('is clear').

  Args:
    first: whether to take the first number of a hedge such as '3 or 5'.
  """
  span = spans.trim(text, span, '.,;:')
  if span[0] >= span[1]:
    return None
  if done := _CALCULATOR.match(text, *span):
    span = done.end(), span[1]
  if box := _BOX.match(text, *span):
    close = text.rfind('}', box.end(), span[1])
    span = spans.trim(text, (box.end(), close if close >= 0 else span[1]))
  if but := _NOT_BUT.match(text, *span):
    span = but.end(), span[1]
  if expected.choice:
    letter = letters.choice(text, span)
    if letter is not None:
      return letter
    plain = spans.PROSE.search(text[slice(*span)])
    return None if plain else Statement(span)
  if expected.words:
    return _words(text, span)
  if expected.several:
    return _several(text, span)
  return _single(text, span, expected, first)


def content(
  text: str, span: Span, expected: Expected, first: bool = False
) -> Statement:
  """Returns the content of a box, all of it unless it hedges."""
  if lead := _TEXT_LEAD.match(text, *span):
    span = spans.trim(text, (lead.end(), span[1]))
  inside = text[slice(*span)]
  if expected.choice:
    return letters.choice(text, span) or Statement(span)
  if expected.several:
    return Statement(span, text=listed(inside))
  if expected.words:
    return Statement(span)
  label = _LABEL.match(inside)
  if label and expected.numeric and label.end() < len(inside):
    rest = span[0] + label.end(), span[1]
    if numbers.read(text[slice(*rest)].strip('}')) is not None:
      span = spans.trim(text, rest, '}')
      inside = text[slice(*span)]
  if _hedged(inside, ''):
    return _first(text, span) if first else Statement(None)
  return Statement(span)


def joined(text: str, first: Span, second: Span) -> bool:
  """Whether two formulas are one answer: '$x=3$ and $x=5$'."""
  gap = text[first[1] : second[0]].strip('$\\()[] ')
  return _AND.fullmatch(gap) is not None or gap == 'or'


def listed(values: str) -> str:
  r"""Returns the values joined by commas: '3 \text{ or } 5' gives '3, 5'."""
  return _LIST.sub(', ', values).replace(', , ', ', ').strip()


def _words(text: str, span: Span) -> Statement | None:
  lead = _LEAD.match(text, *span)
  start = lead.end() if lead else span[0]
  cut = _CLAUSE.search(text, start, span[1])
  end = cut.start() if cut and cut.start() > start else span[1]
  inner = spans.trim(text, (start, end), '.,;:')
  return Statement(inner) if inner[0] < inner[1] else None


def _clause(text: str, span: Span, inner: list[Span]) -> Span:
  """Cuts a span where a reason begins, if a number or formula precedes it."""
  for cut in _CLAUSE.finditer(text, *span):
    if any(a - 2 <= cut.start() < b for a, b in inner):
      continue
    head = text[span[0] : cut.start()]
    if re.search(r'\d', head) or _SYMBOLIC.search(head) or '$' in head:
      return span[0], cut.start()
    if re.fullmatch(r'\W*[A-Za-z]\W*', head):  # a symbol
      return span[0], cut.start()
  return span


def _several(text: str, span: Span) -> Statement | None:
  inner = spans.formulas(text, span)
  span = _clause(text, span, inner)
  inner = [s for s in inner if s[0] < span[1]]
  lead = _LEAD.match(text, *span)
  start = lead.end() if lead else span[0]
  if inner:
    joined = ', '.join(text[slice(*s)] for s in inner)
    return Statement((inner[0][0], inner[-1][1]), text=listed(joined))
  inside = text[start : span[1]]
  values = listed(inside)
  if spans.PROSE.search(spans.without_text(values)) or not re.search(
    r'[\d\\a-z]', values
  ):
    return None
  return Statement((start, span[1]), text=values)


def _single(
  text: str, span: Span, expected: Expected, first: bool
) -> Statement | None:
  whole = text[slice(*span)]
  if expected.numeric and (_NOTHING.match(whole) or _TWO_NAMED.search(whole)):
    return Statement(None)
  if numbers.read(whole) is not None:
    return Statement(span)
  if expected.numeric and _TAKEN_BACK.search(whole):
    return Statement(None)
  spelt = answer_words.NUMERAL.match(text, *span) if expected.numeric else None
  if spelt and (value := answer_words.numeral(spelt[1])) is not None:
    return Statement(spelt.span(1), text=str(value))
  label = _LABEL.match(whole)
  if label and label.end() < len(whole):
    rest = span[0] + label.end(), span[1]
    if expected.numeric and numbers.read(text[slice(*rest)]) is not None:
      return Statement(rest)
  inner = spans.formulas(text, span)
  main = _clause(text, span, inner)
  clause = text[slice(*main)]
  before = re.search(r'[\d$]|\\[([a-z]', clause)
  before = clause[: before.start()] if before else clause
  compared = expected.numeric and _COMPARED.search(before)
  if compared or _hedged(clause, before):
    return _first(text, main) if first else Statement(None)
  other = _ALTERNATIVE.search(text, *main)
  if other and re.search(r'\d', text[main[0] : other.start()]):
    main = spans.trim(text, (main[0], other.start()), ',(')  # 1/3, or 0.333
    clause = text[slice(*main)]
  inner = [s for s in inner if s[0] < main[1]]
  if inner:
    return _formula(text, main, inner, expected)
  if numbers.read(clause) is not None:
    return Statement(main)
  return _plain(text, main, expected) or _rest(text, main, span, expected)


def _formula(
  text: str, main: Span, inner: list[Span], expected: Expected
) -> Statement:
  """Returns the formula of a clause; the last one if there are several."""
  last = inner[0]
  for one in inner[1:]:
    gap = text[last[1] : one[0]].strip('$\\()[] ')
    if _AND.fullmatch(gap):
      return Statement(None)  # two answers
    last = one
  after = text[inner[-1][1] : main[1]].lstrip('$)]\\')
  if expected.numeric and spans.worked(text[main[0] : inner[0][0]], after):
    return Statement(None, clean=False)
  around = text[main[0] : inner[0][0]] + text[inner[-1][1] : main[1]]
  return Statement(last, clean=not re.search(r'\d', around))


def _plain(text: str, span: Span, expected: Expected) -> Statement | None:
  """Returns the answer in a clause without formulas, None if it has none."""
  lead = _LEAD.match(text, *span)
  span = spans.trim(text, (lead.end() if lead else span[0], span[1]), '.,;:')
  clause = text[slice(*span)]
  if minus := _MINUS.match(clause):
    return Statement(span, text='-' + clause[minus.end() :])
  if numbers.read(clause) is not None:
    return Statement(span)
  left, equals, right = clause.rpartition('=')
  if equals and expected.numeric and spans.unsolved(left + equals):
    return Statement(None, clean=False)
  if equals and expected.numeric:
    at = spans.trim(text, (span[1] - len(right), span[1]))
    value = numbers.read(text[slice(*at)])
    was = numbers.read(left.rpartition('=')[2])
    if was is not None and value is not None and was.value != value.value:
      return Statement(span)  # 17 = 18 is wrong as a whole, so not only 18
    if value is not None:
      return Statement(at)
    if right.strip():
      return _plain(text, at, expected)
  if _BARE_LIST.fullmatch(clause) and re.search(r'\d', clause):
    return Statement(span)
  if _SYMBOLIC.search(clause) or not re.search(r'\d', clause):
    units = _UNITS.search(clause)
    if units and not re.search(rf'\b{spans.FUNCTIONS}', units[0]):
      span = spans.trim(text, (span[0], span[0] + units.start()))
      clause = text[slice(*span)]
    prose = spans.PROSE.search(spans.without_text(clause))
    return None if prose or not clause else Statement(span)
  values = list(numbers.FIND.finditer(clause))
  alone = [m for m in values if spans.stands(clause, m.start(), m.end())]
  if len(alone) != len(values) or not values:
    return None if spans.PROSE.search(clause) else Statement(span)
  here = lambda m: (span[0] + m.start(), span[0] + m.end())
  if spans.worked(clause[: values[0].start()], clause[values[-1].end() :]):
    return Statement(None, clean=False)
  if len({m[0] for m in values}) == 1:
    return Statement(here(values[0]), clean=False)
  between = clause[values[0].end() : values[1].start()]
  other = re.search(r'\b(?:and|to|or|vs|versus)\b|[,|;&]', between)
  # 5 feet 6 inches, 5 over 6, 18 cents more than 2
  if not other:
    other = spans.worked('', clause[values[0].end() :]) or re.search(
      r'^[\s\'’′]*(?:[A-Za-z]+\.?)?\s*$|\b(?:more|less|fewer) than\b', between
    )
  if values[0].start() == 0 and not other:
    return Statement(here(values[0]), clean=False)
  return Statement(None, clean=False) if other else None


def _rest(
  text: str, main: Span, span: Span, expected: Expected
) -> Statement | None:
  """Reads the number after the clause: 'the number of apples, which is 7'."""
  rest = text[main[1] : span[1]] if main != span else text[slice(*span)]
  if not expected.numeric or (
    re.search(r'\d', text[slice(*main)]) and main != span
  ):
    return None
  values = list(numbers.FIND.finditer(rest))
  offset = span[1] - len(rest)
  if values and spans.worked(
    rest[: values[0].start()], rest[values[0].end() :]
  ):
    return Statement(None, clean=False)
  if len(values) != 1 or not spans.stands(rest, *values[0].span()):
    return None
  return Statement(
    (offset + values[0].start(), offset + values[0].end()), clean=False
  )


def _first(text: str, span: Span) -> Statement:
  match = numbers.FIND.search(text, *span)
  return Statement(match.span()) if match else Statement(None)


def _hedged(clause: str, before: str) -> bool:
  """Whether a clause leaves open which value it means.

  Args:
    before: the part of the clause before its first number.
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
    values = [numbers.read(_ABOUT.sub('', p)) for p in parts]
  except numbers.TooLong:
    return True
  if None in values:
    return True
  first, *others = values
  near = lambda v: abs(v.value - first.value) <= abs(first.value) / 100
  return not all(
    numbers.equal(first, v) or (_ABOUT.match(p) and near(v))
    for p, v in zip(parts[1:], others, strict=True)
  )

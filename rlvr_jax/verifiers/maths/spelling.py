r"""How is Unicode mathematics written as LaTeX, without style commands?"""

import functools
import re
import unicodedata

NAMES = [
  'alpha',
  'beta',
  'gamma',
  'delta',
  'epsilon',
  'zeta',
  'eta',
  'theta',
  'iota',
  'kappa',
  'lambda',
  'mu',
  'nu',
  'xi',
  'pi',
  'rho',
  'sigma',
  'tau',
  'upsilon',
  'phi',
  'chi',
  'psi',
  'omega',
]
_LETTERS = 'αβγδεζηθικλμνξπρστυφχψω'
GREEK = frozenset(NAMES) | {g.capitalize() for g in NAMES}
_UNICODE = (
  {a: f'\\{b} ' for a, b in zip(_LETTERS, NAMES)}
  | {a.upper(): f'\\{b.capitalize()} ' for a, b in zip(_LETTERS, NAMES)}
  | {'ς': '\\sigma ', 'ϕ': '\\phi ', 'ϵ': '\\epsilon ', 'ϑ': '\\theta '}
  | {c: '-' for c in '−–—﹣‐‑'}
  | {c: '*' for c in '×·∙⋅✕∗'}
  | {'÷': '/', '∕': '/', '⁄': '/', '±': '\\pm ', '∓': '\\mp ', '∣': '|'}
  | {'≤': '<=', '⩽': '<=', '≦': '<=', '≥': '>=', '⩾': '>=', '≧': '>='}
  | {'≠': '\\ne ', '≈': '\\approx ', '≃': '\\approx ', '≅': '\\cong '}
  | {'≡': '\\equiv ', '∈': '\\in ', '∉': '\\notin ', '∪': '\\cup '}
  | {'∩': '\\cap ', '∖': '\\setminus ', '∅': '\\emptyset ', '⌀': '\\emptyset '}
  | {'∞': '\\infty ', '√': '\\sqrt ', '∛': '\\sqrt[3]', '∜': '\\sqrt[4]'}
  | {'⌊': '\\lfloor ', '⌋': '\\rfloor ', '⌈': '\\lceil ', '⌉': '\\rceil '}
  | {
    '°': '^\\circ ',
    'º': '^\\circ ',
    '˚': '^\\circ ',
    '℃': '^\\circ C',
    '℉': '^\\circ F',
  }
  | {'′': "'", '…': '\\ldots ', '⋯': '\\ldots ', '⟨': '\\langle '}
  | {'⟩': '\\rangle ', '∧': '\\land ', '∨': '\\lor ', '∠': '\\angle '}
  | {'△': '\\triangle ', '∑': '\\sum ', '∏': '\\prod ', '∫': '\\int '}
  | {'→': '\\to ', '⇒': '\\Rightarrow ', '∘': '^\\circ ', 'µ': '\\mu '}
  | {c: f'\\mathbb{{{a}}} ' for c, a in zip('ℝℤℕℚℂ', 'RZNQC')}
  | {'ℯ': 'e', 'ⅇ': 'e', 'ⅈ': 'i', 'Ω': '\\Omega ', 'ϖ': '\\pi ', '∶': ':'}
  | {c: '' for c in '$£€¥₹¢\u200b\u200c\u200d\u2060\ufeff'}
)
_RAISED = dict(zip('⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ', '0123456789+-()nix'))
_LOWERED = dict(zip('₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢₖₓ', '0123456789+-()nikx'))
_RUNS = (
  (re.compile(f'[{"".join(map(re.escape, _RAISED))}]+'), '^', _RAISED),
  (re.compile(f'[{"".join(map(re.escape, _LOWERED))}]+'), '_', _LOWERED),
)
# Commands that only change the appearance (below also those with an argument).
_STYLE = re.compile(
  r'\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|bf|it|rm|sf|tt|em|'
  r'bfseries|itshape|tiny|small|normalsize|large|Large|LARGE|huge|Huge|'
  r'boldsymbol|bm|pmb|mathbf|bold|mathit|mathsf|mathtt|mathnormal|mathcal|'
  r'mathscr|underline|uline|emph|boxed|fbox|mathop|mathord|mathbin|mathstrut|'
  r'limits|nolimits|left|right|middle|[bB]igg?[lrm]?|therefore|ensuremath|'
  r'underbrace|overbrace|checkmark|blacksquare|square|qed|textstyle|allowbreak|hfill|strut|noindent)'
  r'(?![A-Za-z]) ?'
)
_STYLE_OF = re.compile(
  r'\\(?:color|textcolor|mathcolor|colorbox|phantom|hphantom|vphantom|hspace\*?|vspace\*?|'
  r'tag|label|fontsize)(?:\[[^\[\]{}]*\])? ?\{[^{}]*\}'
)
_ROMAN = re.compile(r'\{ ?\\(?:rm) +([^{}]*)\}')
_PERCENT = re.compile(
  r'\\(?:text|mathrm|mbox) ?\{ ?(?:percent|per cent|pct|%|\\%) ?\}'
  r'|(?<![A-Za-z])(?:percent|per cent|pct)\b'
)
# \mathrm{\frac{1}{2}}: only style, since it contains mathematics.
_STYLED = re.compile(
  r'\\(?:text|textbf|textrm|mbox|mathrm) ?\{'
  r'(?=[^{}A-Za-z\\]{0,20}\\(?:[dt]?frac|sqrt|pi|infty|d?binom)(?![A-Za-z]))'
)
# Binomial coefficients: _6C_2, 6C2.
_CHOOSE = re.compile(
  r'(?<![\w.\\])(?:\{\})?[_^]\{?(\d{1,4})\}?(?:C|\\(?:mathrm|text)\{C\})_\{?(\d{1,4})\}?'
  r'|(?<![\w.\\])(\d{1,4})C(\d{1,4})(?![\w.])'
)
_SPACE = re.compile(
  r'\\(?:[,;:!> ]|quad(?![A-Za-z])|qquad(?![A-Za-z])|thinspace(?![A-Za-z])|'
  r'enspace(?![A-Za-z]))|[~\s]'
)


def plain(text: str) -> str:
  r"""Rewrites Unicode mathematics as LaTeX, without style commands.

  All white space becomes ' ', the end of a matrix row \x03.
  """
  if any(ord(c) > 127 for c in text):
    text = re.sub(
      r'(?:\d[\u0305\u0304])+',
      lambda m: '\\overline{' + re.sub(r'\D', '', m[0]) + '}',
      text,
    )
    for run, sign, table in _RUNS:
      text = run.sub(functools.partial(_shifted, sign, table), text)
    text = ''.join(_ascii(c) for c in text)
  text = _PERCENT.sub(r'\\%', text)
  if not re.search(r'matrix|array|cases|align', text):
    text = re.sub(r'\\\\(?=[A-Za-z])', r'\\', text)  # \\frac, escaped twice
  # the end of a matrix row
  text = re.sub(r'\\\\(?: ?\[\d[\d.]*(?:pt|em|ex|mm)\])?', '\x03', text)
  text = _STYLED.sub('{', text)
  text = _CHOOSE.sub(
    lambda m: f'\\binom{{{m[1] or m[3]}}}{{{m[2] or m[4]}}}', text
  )
  text = _SPACE.sub(' ', text.replace('\\$', '').replace('\\!', ''))
  text = _ROMAN.sub(r'\\mathrm{\1}', text)
  for _ in range(3):  # \color{red}{...} may hold another
    text = _STYLE_OF.sub(' ', text)
  text = re.sub(r'\\(?:left|right) ?\.', ' ', text)
  return _STYLE.sub('', text)


def _shifted(sign: str, table: dict[str, str], match: re.Match) -> str:
  return f'{sign}{{{"".join(table[c] for c in match[0])}}}'


def _ascii(c: str) -> str:
  if ord(c) < 128:
    return c
  if c in _UNICODE:
    return _UNICODE[c]
  wide = unicodedata.normalize('NFKC', c)
  if '⁄' in wide:  # ½
    top, _, bottom = wide.partition('⁄')
    return f'\\frac{{{top}}}{{{bottom}}}'
  if wide != c and len(wide) == 1:  # fullwidth, mathematical alphabets
    return _UNICODE.get(wide, wide)
  if c.isspace():
    return ' '
  return wide if wide.isascii() else c

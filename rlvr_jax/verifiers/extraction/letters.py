"""Which letter of multiple choice does a stretch of text name?"""

import re

from rlvr_jax.verifiers.extraction.spans import DECORATION, Span, Statement

_CHOICE = re.compile(
  r'(?i:(?:(?:the|is|that|it|indeed|clearly|therefore|thus|hence|simply|so)[\s,]+){0,3}'
  r'(?:(?:correct|right|best|final|must|be)\s+){0,3}(?:\\text\w{0,2}\{\s?)?'
  r'(?:(?:option|choice|letter|answer|statement)\b\s*(?:is\s)?[:\s]*)?)'
  r'(?P<open>[\s*_`"\'(\[{$“]|\\(?:text|textbf|textit|mathrm|mathbf|left|'
  r'mbox|boxed|bf|rm|\()\s?){0,8}(?P<letter>[A-Ja-j])(?![A-Za-z0-9_^\'’])',
)
# What may follow a letter that has no bracket or full stop after it.
_AFTER_LETTER = re.compile(
  r'(?:\s+(?:because|since|as|which|that|with|by|from|due|given|where|is|'
  r'if|when|not|rather|only|instead|and (?:not|the|this|so|it))\b|\s*\\(?:text|quad|;)|\s*[,;]|\s+[—–-]\s|\s+\('
  r'|\s*$)',
  re.IGNORECASE,
)
_DENIED = re.compile(
  r'[)\]*_.]{0,4}\s+(?:is|was|are|seems|looks|can|could|would|does)(?:n[\'’]t|[ \t]+(?:not|'
  r'definitely|clearly|also|simply|just|a|an|the|too)|not)*[ \t]*'
  r'(?:(?<=not)|(?<=n[\'’]t)|(?<=not )|(?<=n[\'’]t )|incorrect|wrong|false|distractor|'
  r'impossible|invalid|ruled out)\b',
  re.IGNORECASE,
)
_ANOTHER = re.compile(
  r'[\s*_`"\')\]}$.]{0,6}(?:/|,|;(?=\s*\(?[A-J]\)?\s*(?:$|[;,.]))|\||&|\+|or|and|\\text\{\s*(?:or|and)\s*\})'
  r'(?:[\s*_`"\'(\[{$]|\\(?:text|textbf|mathrm)\{|option|choice|maybe|possibly|'
  r'perhaps|even|either){0,6}(?<![A-Za-z])[A-J](?![A-Za-z])(?!\s+(?:is|was|fails)\b)'
)


def choice(text: str, span: Span) -> Statement | None:
  """Returns the letter named by an answer such as 'option B' or '(B) 12'.

  None if there is none; `Statement(None)` if several letters are named.
  """
  match = _CHOICE.match(text, *span)
  if match is None:
    return None
  at, inside = match.span('letter'), text[span[0] : match.start('letter')]
  rest = text[at[1] : span[1]]
  if _ANOTHER.match(rest) or re.match(r'\}?\s*\\text\w*\{\s*[A-J]\b', rest):
    return Statement(None)
  if _DENIED.match(rest):
    return None
  bracket = re.match(r'[\s*_`"\'$]{0,4}(?:\\right\s?)?[)\]}.:]', rest)
  bare = rest.strip(DECORATION + '.$})]\\') == ''
  if text[at[0]].islower() and not (bare or inside.rstrip().endswith('(')):
    return None
  if bare or bracket or _AFTER_LETTER.match(rest):
    return Statement(at)
  return None

r"""How is a judge asked, and what does it have to write? Judges by name.

A judge is a function of its options that returns a `judgments.Judge`. `letter`
is for small models and has no instructions; the others are formats of papers,
in our own words: rrm (arXiv 2505.14674), rm_r1 (2505.02387), grm (2504.02495).
"""

import functools
from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.verifiers import judgments
from rlvr_jax.verifiers.judgments import LETTERS, Judge, Messages

MOST = 16  # responses that are scored together

_RRM = """\
Two assistants responded to the query of a user. Decide which response is \
better.

Judge how well each follows the instructions, whether it helps and is accurate \
and harmless, and whether its level of detail fits. Do not let the order in \
which the responses are shown, their length or the names of the assistants \
count. There are no ties.

Think first. Then end with \\boxed{{Assistant 1}} or \\boxed{{Assistant 2}}.

[The start of the query]
{question}
[The end of the query]

[The start of the response of Assistant 1]
{0}
[The end of the response of Assistant 1]

[The start of the response of Assistant 2]
{1}
[The end of the response of Assistant 2]
{hint}"""

_RM_R1_SYSTEM = """\
You compare the responses of two chatbots, A and B, to the query of a user.

First decide what the query asks for: <type>Reasoning</type> if it is about \
mathematics, code, knowledge or several steps of thought, else \
<type>Chat</type>.

Reasoning: solve it yourself inside <solution>...</solution>. Then compare both \
responses with your solution inside <eval>...</eval>.

Chat: write the criteria of a good response, with weights, inside \
<rubric>...</rubric>, and why they fit the query inside <justify>...</justify> \
in it. Then judge both responses by them inside <eval>...</eval>.

In the evaluation put what you quote of a response inside \
<quote_A>...</quote_A> or <quote_B>...</quote_B>, and summaries inside \
<summary_A>...</summary_A> or <summary_B>...</summary_B>. Order and length do \
not count.

End with <answer>[[A]]</answer> or <answer>[[B]]</answer>."""

_RM_R1 = """\
[The start of the query]
{question}
[The end of the query]

[The start of the response of chatbot A]
{0}
[The end of the response of chatbot A]

[The start of the response of chatbot B]
{1}
[The end of the response of chatbot B]
{hint}"""

_GRM = """\
Score the {n} responses below to the query of a user.

First write the principles that a good response to this query has to meet, \
with a weight for each. Then write a critique of each response by these \
principles. The order of the responses does not count.

End with one line of their scores, whole numbers from {low} (worst) to {high} \
(best), in the order shown: Scores: \\boxed{{{places}}}

[The start of the query]
{question}
[The end of the query]
{shown}{hint}"""

_SHOWN = """
[The start of response {name}]
{text}
[The end of response {name}]
"""


@registry.register('judge')
def rrm() -> Judge:
  r"""Thinks, then `\boxed{Assistant 1}` or `\boxed{Assistant 2}`."""

  def build(question, responses, hint):
    text = _RRM.format(*responses, question=question, hint=hint).rstrip()
    return [{'role': 'user', 'content': text}]

  verdict = lambda place, n: f'\\boxed{{Assistant {place + 1}}}'
  return Judge(2, 2, build, judgments.boxed_assistant, verdict)


_PARSERS = {
  'training': judgments.answer_tag_at_end,
  'evaluation': judgments.letter_anywhere,
}


@registry.register('judge')
def rm_r1(*, parser: str = 'training') -> Judge:
  """A rubric or an own solution, an evaluation, then [[A]] or [[B]] in a tag.

  Args:
    parser: of RM-R1's code, whose training reward and evaluation read
      differently: 'training' (`judgments.answer_tag_at_end`) or 'evaluation'
      (`judgments.letter_anywhere`). Quotations of responses are removed first,
      which the code does not do.

  Raises:
    ValueError: another parser.
  """
  if parser not in _PARSERS:
    raise ValueError(
      f'parser={registry.show(parser)}: choose one of {", ".join(_PARSERS)}.'
    )

  def build(question, responses, hint):
    text = _RM_R1.format(*responses, question=question, hint=hint).rstrip()
    return [
      {'role': 'system', 'content': _RM_R1_SYSTEM},
      {'role': 'user', 'content': text},
    ]

  verdict = lambda place, n: f'<answer>[[{LETTERS[place]}]]</answer>'
  return Judge(2, 2, build, _PARSERS[parser], verdict)


@registry.register('judge')
def grm(*, binary: bool = False) -> Judge:
  """Principles, critique, and a score from 1 to 10 for each response.

  Takes one response or up to 16.

  Args:
    binary: scores are 0 or 1, which the paper trains on single responses.
  """
  low, high = (0, 1) if binary else (1, 10)

  def build(question, responses, hint):
    shown = ''.join(
      _SHOWN.format(name=name, text=text)
      for name, text in zip(LETTERS, responses)
    )
    text = _GRM.format(
      n=len(responses),
      low=low,
      high=high,
      places=', '.join(LETTERS[: len(responses)]),
      question=question,
      shown=shown,
      hint=f'\n{hint}' if hint else '',
    ).rstrip()
    return [{'role': 'user', 'content': text}]

  parse = functools.partial(judgments.boxed_scores, low=low, high=high)

  def verdict(place, n):
    scores = ', '.join(str(high if i == place else low) for i in range(n))
    return f'Scores: \\boxed{{{scores}}}'

  return Judge(1, MOST, build, parse, verdict)


@registry.register('judge')
def letter() -> Judge:
  """Question and two answers on three lines; the reply is A or B.

  Without instructions, for models that are trained to judge. White space of the
  answers is one space, so that none can imitate a line of the prompt.
  """

  def build(question: str, responses: Sequence[str], hint: str) -> Messages:
    a, b = (' '.join(r.split()) for r in responses)
    question = ' '.join(question.split())
    text = '\n'.join(filter(None, (question, f'A: {a}', f'B: {b}', hint)))
    return [{'role': 'user', 'content': text}]

  verdict = lambda place, n: LETTERS[place]
  return Judge(2, 2, build, judgments.lone_letter, verdict)

"""Which part of a completion is its answer: thoughts, marks, hedges, choices.

Rows of which_answer.jsonl: a gold answer, a completion, whether it is right.
"""

import json
import pathlib

from rlvr_jax import enums
from rlvr_jax.verifiers import answer

ROWS = pathlib.Path(__file__).with_name('which_answer.jsonl')


def test_which_text_is_the_answer():
  rows = [json.loads(x) for x in ROWS.read_text('utf-8').splitlines()]
  assert len(rows) > 800
  golds, texts = ([row[key] for row in rows] for key in ('gold', 'text'))
  verdicts = answer.verify(golds, texts, timeout_s=30)
  correct = enums.Verdict.CORRECT
  assert [
    r for r, v in zip(rows, verdicts) if (v == correct) != r['right']
  ] == []


def test_the_last_number_of_prose_is_found_beside_calculators_and_units():
  """Such as GSM8K's calculator annotations, units and prices."""
  for text, want in [
    ('3 + 4 = <<3+4=7>>7 times.', '7'),
    ('is 12/6 = <<12/6=2>>2 pieces a day', '2'),
    ('100% * 0.5 = <<100*.5=50>>50% of the total cost', '50%'),
    ('If 3 people pay 5 each, it is 3*5 = 15', '15'),
    ('so Y = <<9=9>>9, so Max won 9 times.', '9'),
    ('he has 700-400=300$ left', '300'),
    ('Adding 5 to both sides, we get 10 = b', '10'),
  ]:
    got = answer.verify([want], [text])
    assert got == [enums.Verdict.CORRECT], text

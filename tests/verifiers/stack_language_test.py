"""The stack language: by hand, under attack, against a second interpreter."""

import random

import pytest

from rlvr_jax.verifiers import stack_language as sl


def run(text, *stack):
  return sl.run(sl.parse(text), stack)


@pytest.mark.parametrize(
  ('text', 'stack', 'left'),
  [
    ('12', (), (12,)),
    ('-3 -0', (), (-3, 0)),
    ('dup', (1, 2), (1, 2, 2)),
    ('drop', (1, 2), (1,)),
    ('drop drop', (1, 2), ()),
    ('swap', (1, 2, 3), (1, 3, 2)),
    ('over', (1, 2), (1, 2, 1)),
    ('+', (9, 4), (13,)),
    ('-', (9, 4), (5,)),
    ('*', (9, 4), (36,)),
    ('mod', (9, 4), (1,)),
    ('mod', (-9, 4), (3,)),  # the sign of the divisor
    ('mod', (9, -4), (-3,)),
    ('<', (3, 4), (1,)),
    ('<', (4, 4), (0,)),
    ('=', (4, 4), (1,)),
    ('=', (3, 4), (0,)),
    ('if 5 else 6 then 7', (1,), (5, 7)),
    ('if 5 else 6 then 7', (-2,), (5, 7)),
    ('if 5 else 6 then 7', (0,), (6, 7)),
    ('if 5 then 7', (1,), (5, 7)),
    ('if 5 then 7', (0,), (7,)),
    ('if else then', (1,), ()),
    ('if if 1 else 2 then else 3 then', (0, 1), (2,)),
    ('if if 1 else 2 then else 3 then', (0, 0), (0, 3)),
    ('times 2 * end', (1, 10), (1024,)),
    ('times 2 * end', (1, 0), (1,)),
    ('times 2 * end', (1, -5), (1,)),
    ('times 3 times 1 + end end', (0, 4), (12,)),
    ('3 times if 5 else 6 then end', (0, 1, 0), (0, 1, 5)),
    ('1 swap times over * end', (3, 4), (3, 81)),
    ('over over < if swap then drop', (3, 8), (8,)),  # the larger one
    ('over over < if swap then drop', (8, 3), (8,)),
    ('\tdup\n\r\n*\u00a0', (7,), (49,)),
  ],
)
def test_known_answers(text, stack, left):
  got = run(text, *stack)
  assert (got.stack, got.fault, got.at) == (left, None, -1)


@pytest.mark.parametrize(
  ('text', 'stack', 'fault', 'at', 'steps', 'left'),
  [
    ('1 2 swap drop +', (), "'+' needs 2 numbers", 4, 5, (2,)),
    ('dup', (), "'dup' needs 1 number", 0, 1, ()),
    ('1 if dup then', (), "'dup' needs 1 number", 2, 3, ()),
    ('times end', (), "'times' needs 1 number", 0, 1, ()),
    ('0 mod', (5,), "'mod' by 0", 1, 2, (5, 0)),
    ('dup *', (10**6,), 'more than 12 digits', 1, 2, (10**6, 10**6)),
    ('1 +', (10**12 - 1,), 'more than 12 digits', 1, 2, (10**12 - 1, 1)),
    ('times 7 end', (100,), 'more than 64 numbers', 1, 130, (7,) * 64),
    ('times end', (10**11,), 'more than 1000 steps', 1, 1000, ()),
    ('times times end end', (5, 2), "'times' needs", 1, 15, None),
  ],
)
def test_faults_name_the_word_the_step_and_the_stack(
  text, stack, fault, at, steps, left
):
  got = run(text, *stack)
  assert fault in got.fault
  assert got.at == at
  if left is not None:
    assert (got.steps, got.stack) == (steps, left)
  assert not any(str(x) in got.fault for x in stack if x > 2000)


@pytest.mark.parametrize(
  ('text', 'says'),
  [
    ('', 'empty'),
    (' \n', 'empty'),
    ('1 2 foo +', r"'foo' \(word 3, character 5\) is no word"),
    ('1 1234567890123', r'\(word 2, character 3\) has more than 12 digits'),
    ('9' * 1999, r"'9{20}\.\.\.' \(word 1, character 1\) has more than 12"),
    ('then', r"'then' \(word 1.* has no 'if' before it"),
    ('1 else', "has no 'if' before it"),
    ('1 if else else then', r"'else' \(word 4.* has no 'if' before it"),
    ('1 if end', "has no 'times' before it"),
    ('1 times then', "has no 'if' before it"),
    ('1 times 2 if end then', r"'end' \(word 5.* has no 'times' before it"),
    ('1 if 2', r"'if' \(word 2.* has no 'then' after it"),
    ('1 if 2 else', r"'else' \(word 4.* has no 'then' after it"),
    ('1 times 2', r"'times' \(word 2.* has no 'end' after it"),
    ('1 times ' * 17 + 'end ' * 17, 'nested deeper than 16'),
    ('1 ' * 1001, 'more than 2000 characters'),
    ('٣', 'is no word'),
    ('²', 'is no word'),
    ('𝟘', 'is no word'),
    ('1_0', 'is no word'),
    ('+5', 'is no word'),
    ('1.0', 'is no word'),
    ('DUP', 'is no word'),
    ('dup;drop', 'is no word'),
    ('__import__("os")', 'is no word'),
    ('\ud800', r"'\\ud800'"),
    ('\0', r"'\\x00'"),
  ],
)
def test_what_is_no_program_is_refused_with_its_place(text, says):
  with pytest.raises(sl.Unreadable, match=says):
    sl.parse(text)


def test_the_deepest_nesting_runs():
  assert run('1 times ' * 16 + 'dup ' + 'end ' * 16, 7).stack == (7, 7)


class Fault(Exception):
  pass


class Reference:
  """A recursive interpreter, written apart from the one under test."""

  def __init__(self, words, stack):
    self.words, self.stack, self.steps = words, list(stack), 0

  def step(self, needs=0):
    if self.steps == 1000:
      raise Fault
    self.steps += 1
    if len(self.stack) < needs:
      raise Fault

  def push(self, x):
    if len(self.stack) == 64:
      raise Fault
    self.stack.append(x)

  def block(self, at, live):
    """Runs from word `at` up to an else, then or end; returns its place."""
    while at < len(self.words) and self.words[at] not in (
      'else',
      'then',
      'end',
    ):
      at = self.word(at, live)
    return at

  def word(self, at, live):
    w, s = self.words[at], self.stack
    if w == 'if':
      taken = False
      if live:
        self.step(1)
        taken = bool(s.pop())
      at = self.block(at + 1, live and taken)
      has_else = self.words[at] == 'else'
      if has_else:
        if live and taken:
          self.step()
        at = self.block(at + 1, live and not taken)
      if live and taken != has_else:  # the branch that runs into `then`
        self.step()
      return at + 1
    if w == 'times':
      n = 0
      if live:
        self.step(1)
        n = s.pop()
      end = self.block(at + 1, False)
      for _ in range(n):
        self.block(at + 1, True)
        self.step()
      return end + 1
    if live:
      if w.lstrip('-').isdigit():
        self.step()
        self.push(int(w))
      elif w in ('dup', 'drop'):
        self.step(1)
        self.push(s[-1]) if w == 'dup' else s.pop()
      elif w == 'over':
        self.step(2)
        self.push(s[-2])
      elif w == 'swap':
        self.step(2)
        s[-1], s[-2] = s[-2], s[-1]
      else:
        self.step(2)
        a, b = s[-2], s[-1]
        if w == 'mod' and b == 0:
          raise Fault
        results = {'+': a + b, '-': a - b, '*': a * b, '<': a < b, '=': a == b}
        x = a - b * (a // b) if w == 'mod' else int(results[w])
        if not -(10**12) < x < 10**12:
          raise Fault
        s.pop()
        s[-1] = x
    return at + 1


def random_words(rng, depth=0):
  out = []
  for _ in range(rng.randint(0, 5)):
    kind = rng.random()
    if kind < 0.12 and depth < 4:
      out += ['if', *random_words(rng, depth + 1)]
      if rng.random() < 0.5:
        out += ['else', *random_words(rng, depth + 1)]
      out += ['then']
    elif kind < 0.24 and depth < 4:
      count = [str(rng.choice([0, 2, 3, 40]))] if rng.random() < 0.7 else []
      out += [*count, 'times', *random_words(rng, depth + 1), 'end']
    elif kind < 0.5:
      out.append(str(rng.choice([-7, -1, 0, 1, 2, 3, 9, 99_999, 10**11])))
    else:
      out.append(rng.choice(list(sl.EFFECTS)))
  return out


def test_random_programs_agree_with_a_second_interpreter():
  rng = random.Random(0)
  faults = ends = 0
  for _ in range(4000):
    words = random_words(rng) or ['dup']
    stack = [rng.randint(-9, 9) for _ in range(rng.randint(0, 5))]
    got = sl.run(sl.parse(' '.join(words)), stack)
    ref = Reference(words, stack)
    try:
      assert ref.block(0, True) == len(words)
      failed = False
    except Fault:
      failed = True
    assert (got.fault is not None) == failed, (words, stack, got)
    assert list(got.stack) == ref.stack, (words, stack, got)
    assert got.steps == ref.steps
    assert len(got.stack) <= sl.STACK
    assert got.steps <= sl.STEPS
    faults, ends = faults + failed, ends + (not failed)
  assert min(faults, ends) > 500


def test_words_do_to_the_depth_what_the_table_says():
  for word, (taken, left) in sl.EFFECTS.items():
    assert len(run(word, *range(5, 5 + taken)).stack) == left
    assert run(word, *range(5, 4 + taken)).fault


def test_random_text_is_refused_or_runs_within_the_limits():
  rng = random.Random(1)
  words = [*sl.EFFECTS, *sl._CONTROL, '3', '-1', 'x', '999999999999']
  for _ in range(3000):
    text = ' '.join(rng.choice(words) for _ in range(rng.randint(1, 12)))
    try:
      program = sl.parse(text)
    except sl.Unreadable:
      continue
    got = sl.run(program, [2, 3, 4])
    assert got.steps <= sl.STEPS
    assert all(abs(x) < sl.NUMBER for x in got.stack)
  assert sl.show([]) == '(empty)'
  assert sl.show(range(10), 3) == '... 7 8 9'

"""Chains with a context, for base models that read."""

import collections
import itertools

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rollouts import context
from rlvr_jax.verifiers import dispatch

OPTIONS = "depth=3, ops='+-', train_size=600, test_size=20"


def kinds(**options):
  """{kind: [(task, the task of `chain`)]}."""
  told = registry.get('env', f'told_chain({OPTIONS})')(**options)['train']
  plain = registry.get('env', f'chain({OPTIONS})')()['train']
  out = collections.defaultdict(list)
  for task, gold in zip(told, plain, strict=True):
    question, _, said = task.question.partition('\n\n')
    assert question == gold.question
    kind = 'feedback' if said.startswith('Step') else 'solution'
    out[kind if said else 'not told'].append((task, gold))
  return out


def test_shares_and_what_is_written():
  found = kinds(told=0.5, feedback=0.4, reliability=0.8)
  share = {k: len(v) / 600 for k, v in found.items()}
  assert share['not told'] == pytest.approx(0.5, abs=0.06)
  for task, gold in found['solution']:
    told = context.TEMPLATES['plain'].solution.format(
      text=gold.data['solution']
    )
    assert task.question == gold.question + told
  use = [t.data['solution'] == g.data['solution'] for t, g in found['solution']]
  assert 0.8 <= sum(use) / len(use) < 0.95  # a guess may be right by chance
  for task, gold in found['feedback']:
    said = task.question.partition('\n\n')[2]
    step, wrong = said.split(',')[0], said.split(', ')[1]
    lines = task.data['solution'].split('\n')
    at = int(step.removeprefix('Step ')) - 1
    assert lines[at][:4] == wrong[:4]
    assert lines[at] != wrong
    true = gold.data['solution'].split('\n')[:at]
    assert lines[:at] == true  # what was right before stays
    assert task.answer == ''.join(line[-1] for line in lines[:-1])
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(lines[:-1]))


def test_feedback_is_what_the_verifier_says_of_a_wrong_guess():
  found = kinds(told=1.0, feedback=1.0)
  assert not found['not told']
  task, gold = found['feedback'][0]
  said = task.question.partition('\n\n')[2]
  guess = registry.get('env', f"chain({OPTIONS}, unknown='-')")()['train']
  one = next(t for t in guess if t.question == gold.question)
  wrong = [enums.Verdict.WRONG]
  assert dispatch.feedback([gold], [one.data['solution']], wrong) == [said]


def test_a_share_out_of_range():
  with pytest.raises(ValueError, match=r'reliability=1\.5 must be a share'):
    kinds(reliability=1.5)

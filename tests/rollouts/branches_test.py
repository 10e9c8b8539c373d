"""Which branches are dropped, and what that does to their groups."""

import types

import pytest

from rlvr_jax.enums import Stop, Verdict
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import branches


def branch(text, stop=Stop.END):
  return base.Transcript(text, 3, stop, Verdict.WRONG)


@pytest.mark.parametrize(
  ('text', 'stop', 'fault'),
  [
    ('4', Stop.END, ''),
    ('4', Stop.LENGTH, ''),
    ('', Stop.END, 'end'),
    (' \n', Stop.END, 'end'),
    (' \n', Stop.LENGTH, 'junk'),
    ('\ufffd4', Stop.END, 'junk'),
    ('4\ufffd', Stop.END, 'junk'),
    ('4\ufffd', Stop.LENGTH, ''),  # half a character: the limit cut it
    ('\ufffd\ufffd', Stop.LENGTH, 'junk'),
    ('', Stop.LENGTH, 'junk'),
  ],
)
def test_faults(text, stop, fault):
  assert branches.fault(branch(text, stop)) == fault


def test_dropped_branches_are_refused_and_keep_their_parts():
  results = [base.RewardResult(2.0, {'a': 2.0}) for _ in range(3)]
  got = branches.drop(results, ['', 'end', 'junk'])
  assert [(r.value, r.refused) for r in got] == [
    (2.0, False), (0.0, True), (0.0, True)
  ]  # fmt: skip
  assert all(r.parts == {'a': 2.0} for r in got)


def config(**changes):
  values = dict(method='rl', preference='dpo', branch=True, generations=4)
  values |= dict(eval_branch=False, samples=4, signals=False) | changes
  v = types.SimpleNamespace(**values)
  return types.SimpleNamespace(
    method=v.method,
    env='e()',
    algo=types.SimpleNamespace(preference=v.preference),
    sampling=types.SimpleNamespace(branch=v.branch),
    eval=types.SimpleNamespace(
      branch=v.eval_branch, samples=v.samples, signals=v.signals
    ),
    num_generations=v.generations,
  )


@pytest.mark.parametrize(
  ('changes', 'is_dialogue', 'says'),
  [
    ({'preference': ''}, False, 'a policy gradient needs samples'),
    ({'method': 'distill'}, False, "not read by method='distill'"),
    ({'generations': 9}, False, 'num_generations=9: the model has 8 first'),
    ({'eval_branch': True, 'samples': 9}, False, 'eval.samples=9: the model'),
    ({}, True, 'sampling.branch=True: env=.e.*is a dialogue'),
    ({'branch': False, 'eval_branch': True}, True, 'eval.branch=True'),
    ({'branch': False, 'signals': True}, True, 'eval.signals=True: env'),
  ],
)
def test_what_cannot_work_is_refused(changes, is_dialogue, says):
  with pytest.raises(ValueError, match=says):
    check(config(**changes), is_dialogue)


def check(c, is_dialogue=False):
  branches.check(c, is_dialogue, 8)


def test_what_works():
  check(config())
  check(config(branch=False, preference='', generations=99), True)
  check(config(eval_branch=True, samples=8))

"""Each task is judged by the verifier that it names."""

import sys

import pytest

from rlvr_jax import enums
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch, gym_scorers, pool

C, W, N, U = enums.Verdict

GYM = """
class Set:
  def score_answer(self, answer, entry):
    if answer == 'loop':
      while True: pass
    if answer == 'crash':
      import os; os._exit(1)
    if answer == 'noise':
      print('noise on standard output')
    if answer == 'partial':
      return 0.95
    return 1.0 if answer == entry['answer'] else 0.01

def create_dataset(name, size, seed):
  assert name == 'toy'
  return Set()
"""


def task(verifier, answer='', **data):
  return Task(f'{verifier}-0', 'q', answer, verifier, data)


def test_a_mixed_batch_keeps_its_order():
  tasks = [
    task('countdown', numbers=[3, 4], target=12),
    task('math', '12'),
    task('countdown', numbers=[3, 4], target=7),
    task('math', '7'),
    task('countdown', numbers=[3, 4, 9], target=7, use='at_most_once'),
  ]
  texts = ['<answer>3*4</answer>', '12', '3*4', 'none', '3+4 = 7']
  assert dispatch.verify(tasks, texts) == [C, C, W, N, C]
  assert dispatch.verify([], []) == []


def test_unknown_verifier_and_lengths():
  with pytest.raises(
    ValueError, match=r"'maths'.*'math'.*math, countdown, reasoning_gym"
  ):
    dispatch.verify([task('maths')], ['1'])
  with pytest.raises(ValueError, match='1 tasks for 2 completions'):
    dispatch.verify([task('math', '1')], ['1', '2'])


def test_reasoning_gym_runs_in_a_worker(tmp_path, monkeypatch):
  (tmp_path / 'reasoning_gym.py').write_text(GYM)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'reasoning_gym', raising=False)
  monkeypatch.setattr(gym_scorers, 'OWN', gym_scorers.OWN | {'toy'})
  trust = (
    'from rlvr_jax.verifiers import gym_scorers; '
    "gym_scorers.OWN |= {'toy'}; gym_scorers.digest = lambda: gym_scorers.DIGEST; "
  )
  code = pool._CODE.replace('worker.main()', trust + 'worker.main()')
  monkeypatch.setattr(pool, '_CODE', code)
  pool.shutdown()  # workers take the import path when they start
  entry = {'question': 'q', 'answer': 'red blue', 'metadata': {}}
  gold = task('reasoning_gym', dataset='toy', entry=entry)
  rows = [
    ('<answer>red blue</answer>', C),
    ('so\n\\boxed{red blue}', C),
    ('thoughts\nred blue', C),
    ('<answer>red</answer>', W),
    ('<answer>partial</answer>', W),
    ('<answer>noise</answer>', W),
    ('<answer>loop</answer>', U),
    ('<answer>crash</answer>', U),
    ('', N),
  ]
  texts, verdicts = zip(*rows)
  found = dispatch.verify([gold] * len(rows), texts, timeout_s=1)
  assert found == list(verdicts)
  assert 'reasoning_gym' not in sys.modules
  pool.shutdown()


def test_reasoning_gym_not_installed(monkeypatch):
  monkeypatch.setitem(sys.modules, 'reasoning_gym', None)
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[gym\]'"):
    dispatch.verify([task('reasoning_gym', dataset='toy', entry={})], ['x'])


def test_reasoning_gym_of_another_version_is_not_used(
  tmp_path, monkeypatch, caplog
):
  (tmp_path / 'reasoning_gym.py').write_text(GYM)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(gym_scorers, 'OWN', gym_scorers.OWN | {'toy'})
  monkeypatch.setattr(pool, '_warned', set())
  pool.shutdown()  # workers take the import path when they start
  entry = {'question': 'q', 'answer': 'red', 'metadata': {}}
  gold = task('reasoning_gym', dataset='chain_sum', entry=entry)
  assert dispatch.verify([gold], ['red']) == [U]
  assert 'were not reviewed' in caplog.records[0].message
  pool.shutdown()


def test_verdict_can_be_imported_beside_verify():
  from rlvr_jax.verifiers import answer

  assert answer.Verdict is dispatch.Verdict is enums.Verdict
  got = answer.verify(['18'], ['\\boxed{18}'])
  assert got == [answer.Verdict.CORRECT]

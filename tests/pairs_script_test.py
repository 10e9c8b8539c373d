"""scripts/pairs.py: which pairs it makes of a run's rollouts."""

import json
import pathlib
import sys

import pytest

from rlvr_jax import config, registry, train
from rlvr_jax.enums import Stop, Verdict
from rlvr_jax.evaluation import sample_store
from rlvr_jax.ops import preference
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import log_records
from rlvr_jax.tasks import Task

pytestmark = pytest.mark.usefixtures('no_page')
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'scripts'))
try:
  import pairs as script
finally:
  sys.path.remove(str(ROOT / 'scripts'))


def record(text, reward, step=1, name='train-1', **more):
  base = {'split': 'train', 'step': step, 'id': name, 'question': f'{name}?'}
  base |= {'answer': '7', 'completion': text, 'stop': 'END', 'reward': reward}
  base |= {'verdict': 'CORRECT' if reward >= 1 else 'WRONG'}
  return base | {'parts': {'outcome': reward, 'half': reward / 2}} | more


def make(records, pairs='all', score='reward', cap=0, answers=False):
  made, counts = script.rows(
    script.of_run(records, score),
    registry.get('pairs', pairs),
    cap=cap,
    answers=answers,
  )
  return [(r['chosen'], r['rejected']) for r in made], counts


GROUP = [
  record('a', 2.0),
  record('b', 1.0),
  record('c', 1.0),
  record('d', 0.0),
]


def test_all_pairs_without_ties_largest_margin_first():
  got, _ = make(GROUP)
  assert got[0] == ('a', 'd')
  assert set(got) == {
    ('a', 'b'), ('a', 'c'), ('a', 'd'), ('b', 'd'), ('c', 'd')
  }  # fmt: skip


def test_best_against_worst_margin_and_cap():
  assert make(GROUP, 'best_worst')[0] == [('a', 'd')]
  assert make(GROUP, 'all(margin=1.5)')[0] == [('a', 'd')]
  assert make(GROUP, 'all(margin=2.5)')[0] == []
  assert make(GROUP, 'all(cap=2)')[0] == [('a', 'd'), ('a', 'b')]
  assert make(GROUP, cap=2)[0] == [('a', 'd'), ('a', 'b')]
  assert make(GROUP, score='verdict', cap=1)[0] == [('a', 'd')]
  assert make(GROUP, 'all(margin=0.9)', score='half')[0] == [('a', 'd')]
  assert make(GROUP[1:3], 'best_worst')[0] == []
  assert make(GROUP[:1], 'best_worst')[0] == []


def test_pairs_are_of_one_prompt_and_one_step():
  rows = [record('a', 1.0), record('b', 0.0, step=2)]
  rows += [record('c', 0.0, name='train-2')]
  assert make(rows)[0] == []
  # The same texts in another step are one pair, and the cap is of the prompt.
  again = [*GROUP, *(r | {'step': 2} for r in GROUP)]
  assert len(make(again)[0]) == 5
  assert len(make(again, cap=1)[0]) == 1


def test_a_chat_stays_one(tmp_path):
  chat = [{'role': 'assistant', 'content': 'Hi'}]
  chat += [{'role': 'user', 'content': 'q'}]
  data = {'chosen': 'a', 'rejected': 'b', 'messages': chat}
  task = Task('train-1', 'assistant: Hi\nuser: q', 'a', 'pair', data)
  written = []
  for text, verdict in (('a', Verdict.CORRECT), ('b', Verdict.WRONG)):
    t = base.Transcript(text, 2, Stop.END, verdict)
    line = log_records.record(task, t, 'train')
    written.append(line | {'step': 1, 'reward': 0.0, 'parts': {'outcome': 0.0}})
  (row,), _ = script.rows(
    script.of_run(written, 'verdict'), preference.pairs, cap=0, answers=False
  )
  assert (row['prompt'], row['chosen'], row['rejected']) == (chat, 'a', 'b')


def test_rollouts_of_dialogues_are_refused():
  with pytest.raises(ValueError, match='has dialogues'):
    make([record('a', 1.0, turns=[])])


def test_what_is_no_text_of_a_sample_is_left_out():
  rows = [
    record('a', 1.0),
    record('cut', 0.0, stop='LENGTH'),
    record(' \n', 0.0),
    record('\ufffd', 0.0),
    record('refused', 0.0, parts={}),
    record('eval', 0.0, split='eval'),
    record('a', 0.0),  # another score for the same text
    record('b', float('nan')),
  ]
  got, counts = make(rows)
  assert got == []
  assert counts == {
    'completions': 7,
    'without a score': 2,
    'cut, empty or no text': 3,
    'groups without a pair': 1,
  }


def test_a_run_s_rollouts_train_another_run(tmp_path, capsys):
  small = ['model.name=tiny(layers=1, width=32)', 'total_steps=2']
  small += ['train_batch_size=8', 'groups_per_micro_batch=8']
  small += ['max_completion_length=48', 'eval.num_tasks=2', 'eval_every=0']
  small += ['log_transcripts=1000', 'optimizer.learning_rate=0.0']
  small += ['reward_funcs=("random",)', 'eval.batch_size=8']
  tiny = f'{ROOT / "configs" / "tiny.py"}:smoke'
  train.train(config.load(tiny, small), tmp_path / 'run')
  # What random weights write is no text.
  log = tmp_path / 'run' / 'rollouts.jsonl'
  lines = [json.loads(x) for x in log.read_text('utf-8').splitlines()]
  texts = ({'completion': str(i % 7), 'stop': 'END'} for i in range(10**6))
  log.write_text(
    ''.join(json.dumps(x | y) + '\n' for x, y in zip(lines, texts))
  )
  out, run = tmp_path / 'new' / 'pairs.jsonl', f'--workdir={tmp_path / "run"}'
  assert script.main([run, f'--out={out}', '--cap=3']) == 0
  assert 'pairs of' in capsys.readouterr().out
  rows = [json.loads(x) for x in out.read_text('utf-8').splitlines()]
  assert all(r['score_chosen'] > r['score_rejected'] for r in rows)
  assert all(r['chosen'] != r['rejected'] for r in rows)
  tasks = registry.get('env', registry.spec('pairs', path=str(out)))()
  assert sum(map(len, tasks.values())) == len(rows) > 1


def test_a_score_that_is_not_there_is_refused(tmp_path, capsys):
  path = tmp_path / 'rollouts.jsonl'
  path.write_text(''.join(json.dumps(r) + '\n' for r in GROUP))
  out = f'--out={tmp_path / "a.jsonl"}'
  for flags, says in (
    (['--score=hal'], "Did you mean 'half'"),
    (['--margin=9'], 'has no pair'),
    (['--margin=nan'], 'must be 0 or more'),
    (['--cap=-1'], 'must be 0 or more'),
  ):
    assert script.main([f'--workdir={tmp_path}', out, *flags]) == 1
    assert says in capsys.readouterr().err
  assert not (tmp_path / 'a.jsonl').exists()
  with pytest.raises(SystemExit):
    script.main([out])


def evaluation(folder, texts, gaps):
  """A file of samples: of one task, texts that end on a gap."""
  task = Task('test-0', 'q', '4', 'math', {})
  path = folder / 'samples-0-x.jsonl'
  with sample_store.open(
    path, {'a': 1}, ['test-0'], len(texts), 8, [task]
  ) as f:
    for text, gap in zip(texts, gaps, strict=True):
      verdict = Verdict.CORRECT if text == '4' else Verdict.WRONG
      t = base.Transcript(text, 2, Stop.END, verdict)
      if gap != 'none':
        t = t._replace(signals=base.Signals(0.5, float('nan'), gap, gap))
      f.add([sample_store.record(task, t, 1.0, branch=True)])
  return path


def test_samples_of_an_evaluation_by_any_reward(tmp_path, capsys):
  texts = ['4', '5', '6', '7', ' ', '\ufffd']
  path = evaluation(tmp_path, texts, [0.5, 0.9, 0.25, None, 0.1, 1.0])
  out = tmp_path / 'pairs.jsonl'

  def run(*flags):
    assert script.main([f'--samples={path}', f'--out={out}', *flags]) == 0
    rows = [json.loads(x) for x in out.read_text('utf-8').splitlines()]
    return [(r['chosen'], r['rejected']) for r in rows], rows[0]

  got, row = run('--answers', '--cap=2')
  assert got == [('4', '5'), ('4', '6')]  # right against wrong
  assert (row['prompt'], row['answer'], row['id']) == ('q', '4', 'test-0')
  got, row = run('--score=answer_gap')
  assert got == [('5', '6'), ('5', '4'), ('4', '6')]
  assert '1 without a score, 2 cut, empty or no text' in capsys.readouterr().out
  assert (row['score_chosen'], row['score_rejected']) == (0.9, 0.25)
  got, row = run("--score=answer_gap(scale='minmax')", '--which=best_worst')
  assert got == [('5', '6')]
  assert run('--score=answer_gap(missing=-1)', '--cap=1')[0] == [('5', '7')]
  assert run('--score=answer_gap', '--margin=0.3')[0][1:] == [('5', '4')]
  # A file of samples goes on; who reads it drops a line that is not whole.
  with path.open('a') as f:
    f.write('{"task": 0')
  assert len(run('--score=answer_gap')[0]) == 3


def test_what_is_no_evaluation_with_signals_is_refused(tmp_path, capsys):
  path = evaluation(tmp_path, ['4', '5'], ['none', 'none'])
  empty = tmp_path / 'empty'
  empty.write_text('{"settings": {}}\n')
  for flags, says in (
    ([f'--samples={path}', '--score=answer_gap'], 'have no signals'),
    ([f'--samples={path}', '--score=answer'], "Did you mean 'answer_gap'"),
    ([f'--samples={empty}'], 'holds no samples with their tasks'),
    ([f'--samples={tmp_path / "none"}'], 'No such file'),
  ):
    assert script.main([*flags, f'--out={tmp_path / "a"}']) == 1
    assert says in capsys.readouterr().err

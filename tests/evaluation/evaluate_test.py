"""Drawing samples, keeping them, going on with them."""

import jax
import numpy as np
import pytest

from rlvr_jax import enums
from rlvr_jax.evaluation import eval_metrics, evaluate, sample_store
from rlvr_jax.io import tokenizer as tokenizers
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task

BYTES = tokenizers.byte_level()
SETTINGS = {'a': 1, 'b': [1, 2]}


VERDICTS = enums.Verdict.WRONG, enums.Verdict.CORRECT


def decode(ids):
  return BYTES.decode(ids)


def tasks(n):
  """Task i asks for i."""
  return [Task(f't{i}', str(i), str(i), 'math', {}) for i in range(n)]


def run(n, batch_size, number=1, store=None, **kw):
  """Every row answers its prompt, in the second round the digit after it."""
  calls = []

  def sample(prompt, length, task, round_):
    calls.append((prompt.shape, task.tolist(), round_.tolist()))
    assert prompt[:, 0].tolist() == [b'0123456789'[t] for t in task]
    tokens = np.stack([prompt[:, 0] + round_, np.full(len(prompt), 258)], 1)
    return lambda count: [
      (base.Transcript(text, 2, enums.Stop.END, VERDICTS[text == str(t)]), 1.0)
      for text, t in zip(map(decode, tokens[:count]), task, strict=False)
    ]

  table = evaluate.run(
    tasks(n),
    sample,
    encode=lambda task: BYTES.encode(task.question),
    store=store or sample_store.Samples([t.id for t in tasks(n)], number),
    batch_size=batch_size,
    max_prompt_length=3,
    **kw,
  )
  return table, calls


def same(a, b):
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_short_last_batch_keeps_the_shape_and_counts_each_task_once():
  done, sampled = [], []
  table, calls = run(
    5, 3, progress=done.append, on_sample=lambda *x: sampled.append(x)
  )
  assert [c[0] for c in calls] == [(3, 3), (3, 3)]
  assert [c[1] for c in calls] == [[0, 1, 2], [3, 4, 3]]
  assert [(i, r, t.completion) for i, r, t in sampled] == [
    (0, 0, '0'), (1, 0, '1'), (2, 0, '2'), (3, 0, '3'), (4, 0, '4'),
  ]  # fmt: skip
  assert done == [0, 3, 5]
  assert table.right.all()
  assert table.surprisal.tolist() == [[1.0]] * 5


def test_batch_size_cannot_change_the_answer():
  one, _ = run(5, 5, 2)
  for size in (1, 2, 8):
    same(run(5, size, 2)[0], one)


def test_rounds_are_samples_of_the_same_task():
  table, calls = run(3, 2, 2)
  assert [c[1] for c in calls] == [[0, 1], [2, 0], [1, 2]]
  assert [c[2] for c in calls] == [[0, 0], [0, 1], [1, 1]]
  assert table.right.tolist() == [[True, False]] * 3
  assert table.answer.tolist() == [[0, 1]] * 3


def test_keys_depend_on_seed_task_and_round_alone():
  data = lambda *x: jax.random.key_data(evaluate.keys(*x)).tolist()
  task, round_ = np.array([0, 0, 1, 7]), np.array([0, 1, 0, 3])
  got = data(3, task, round_)
  assert len({tuple(k) for k in got}) == 4
  assert data(3, task[::-1], round_[::-1]) == got[::-1]
  assert data(3, task[2:], round_[2:]) == got[2:]
  assert data(4, task, round_) != got


def test_an_evaluation_resumes_after_its_last_whole_batch(tmp_path):
  """Killed after three and a half batches; more samples later."""
  ids = [t.id for t in tasks(3)]
  path = sample_store.path_of(tmp_path, 7, SETTINGS)
  assert path.name.startswith('samples-7-')
  whole, _ = run(3, 2, 3)
  with sample_store.open(path, SETTINGS, ids, 3, 2) as store:
    same(run(3, 2, store=store)[0], whole)
  complete = path.read_bytes()
  lines = complete.splitlines(keepends=True)
  assert len(lines) == 1 + 9
  path.write_bytes(b''.join(lines[:8]) + lines[8][:20])
  with sample_store.open(path, SETTINGS, ids, 3, 2) as store:
    assert store.done == 6
    table, calls = run(3, 2, store=store)
  assert [c[1] for c in calls] == [[0, 1], [2, 2]]
  same(table, whole)
  assert path.read_bytes() == complete
  # Nothing is left to sample; fewer samples are a part of more.
  with sample_store.open(path, SETTINGS, ids, 1, 2) as store:
    table, calls = run(3, 2, store=store)
  assert not calls
  same(table, run(3, 2, 1)[0])
  assert path.read_bytes() == complete
  # More samples extend the file.
  with sample_store.open(path, SETTINGS, ids, 4, 2) as store:
    assert store.done == 8
    same(run(3, 2, store=store)[0], run(3, 2, 4)[0])


@pytest.mark.parametrize('cut', [0, 5])
def test_a_file_cut_in_its_first_line_starts_anew(tmp_path, cut):
  path = sample_store.path_of(tmp_path, 7, SETTINGS)
  path.write_bytes(b'{"settings"'[:cut])
  with sample_store.open(path, SETTINGS, ['t0'], 2, 2) as store:
    assert store.done == 0
    run(1, 2, store=store)
  with sample_store.open(path, SETTINGS, ['t0'], 2, 2) as store:
    assert store.done == 2


def test_damaged_lines_are_sampled_again_with_a_warning(tmp_path, caplog):
  path = sample_store.path_of(tmp_path, 7, SETTINGS)
  with sample_store.open(path, SETTINGS, ['t0'], 6, 2) as store:
    run(1, 2, store=store)
  complete = path.read_text()
  path.write_text(complete.replace('"round": 3', '"round": 9'))
  with sample_store.open(path, SETTINGS, ['t0'], 6, 2) as store:
    assert store.done == 2
    run(1, 2, store=store)
  assert 'sampled again from byte' in caplog.text
  assert path.read_text() == complete


def test_a_file_belongs_to_one_process_and_one_setting(tmp_path):
  path = sample_store.path_of(tmp_path, 7, SETTINGS)
  one = lambda settings: sample_store.open(path, settings, ['t0'], 1, 1)
  busy = pytest.raises(ValueError, match='Another process is evaluating')
  with one(SETTINGS), busy, one(SETTINGS):
    pass
  with pytest.raises(ValueError, match='other settings'), one({'a': 2}):
    pass
  assert sample_store.path_of(tmp_path, 7, {'a': 2}) != path


def test_records_survive_the_file(tmp_path):
  """NaN, long answers and confidences come back as they were."""
  path = sample_store.path_of(tmp_path, 7, SETTINGS)
  long = '$x' + '+y' * 99 + '$'
  rows = [
    ('\\boxed{1/2} <confidence>0.7</confidence>', 2.25),
    (long, float('nan')),
    ('', 0.1),
    (long, 1e-300),
  ]
  records = [
    sample_store.record(
      tasks(1)[0],
      base.Transcript(
        text,
        9,
        enums.Stop.END,
        enums.Verdict.WRONG,
        fallback=text == long,
        timed_out=text == '',
      ),
      x,
    )
    for text, x in rows
  ]
  with sample_store.open(path, SETTINGS, ['é'], 4, 4) as store:
    store.add(records)
    before = store.table
  with sample_store.open(path, SETTINGS, ['é'], 4, 4) as store:
    same(store.table, before)
  assert before.answer.tolist() == [[0, 1, -1, 1]]
  assert before.confidence[0, 0] == 0.7
  assert before.fallback.tolist() == [[False, True, False, True]]
  assert eval_metrics.summary(before)['eval/fallback'] == 0.5
  assert before.timed_out.tolist() == [[False, False, True, False]]
  assert eval_metrics.summary(before)['eval/timeout'] == 0.25
  assert path.stat().st_size < 2000


def test_time_left_counts_only_new_samples(monkeypatch):
  now = iter([0.0, 1.0, 10.0, 30.0])
  monkeypatch.setattr(evaluate.time, 'monotonic', lambda: next(now))
  printed = []
  progress = evaluate.eta(100, printed.append)
  for done in (40, 41, 50, 100):
    progress(done)
  # 10 in 10 s, so 50 take 50 s more.
  assert printed == ['50/100 samples, 0:50 left', '100/100 samples, 0:00 left']


def test_samples_are_progress_to_whoever_ends_programs_that_hang(monkeypatch):
  calls = []
  monkeypatch.setattr(evaluate.failures, 'alive', lambda: calls.append(1))
  evaluate.eta(4, lambda text: None)(0)
  assert calls == [1]

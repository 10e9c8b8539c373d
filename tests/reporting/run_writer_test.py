"""Files of a killed run become those of a run that was never killed."""

import errno
import io
import json
import logging
import math
import os
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.reporting import run_lock, run_writer

_CONFIG = {'seed': 0, 'total_steps': 4, 'optim': {'lr': 0.1}, 'eval_every': 2}


def _open(folder, step=None, config=_CONFIG, **kw):
  kw = {'total_steps': 4, 'transcripts': 2} | kw
  return run_writer.open(folder, config, step=step, **kw)


def _train(folder, start, stop, step=None):
  with _open(folder, step) as w:
    if step is None:
      w.eval(0, {'eval/accuracy': 0.0})
    for s in range(start, stop + 1):
      w.metrics(s, {'reward': s / 7})
      w.rollouts(s, [{'question': f'{s}?', 'completion': 'é\u2028\n'}] * 3)
      if s % 2 == 0:
        w.eval(s, {'eval/accuracy': s / 4})


def _contents(folder):
  return {
    p.name: p.read_bytes()
    for p in sorted(pathlib.Path(folder).iterdir())
    if p.name not in ('.lock', 'run.json')  # which says when it began
  }


def test_resumed_files_equal_those_of_an_uninterrupted_run(tmp_path):
  _train(tmp_path / 'a', 1, 4)
  want = _contents(tmp_path / 'a')
  assert set(want) == {'config.json', *_FILES}
  for at in range(5):
    folder = tmp_path / f'b{at}'
    _train(folder, 1, 3)  # killed in step 4; the checkpoint is of step `at`
    with (folder / run_writer.METRICS).open('a') as f:
      f.write('{"step": 4, "rew')
    step = at if 0 < at < 4 else None
    _train(folder, (step or 0) + 1, 4, step)
    assert _contents(folder) == want, at
  lines = list(run_writer.read(tmp_path / 'a' / run_writer.ROLLOUTS))
  assert [line['step'] for line in lines] == [1, 1, 2, 2, 3, 3, 4, 4]
  assert lines[0]['completion'] == 'é\u2028\n'


_FILES = (run_writer.METRICS, run_writer.EVAL, run_writer.ROLLOUTS)


def test_numbers(tmp_path):
  with _open(tmp_path) as w:
    w.metrics(
      1,
      {
        'f32': jnp.float32(0.1),
        'f64': np.float64(0.1),
        'int': np.int64(3),
        'nan': jnp.float32(jnp.nan),
        'inf': float('inf'),
        'low': np.float64(-np.inf),
        'flag': np.bool_(True),
        'many': {'x': [np.float32(0.5), float('nan')]},
      },
    )
  text = (tmp_path / run_writer.METRICS).read_text()

  def refuse(name):
    raise AssertionError(name)

  line = json.loads(text, parse_constant=refuse)
  assert line == {
    'step': 1,
    'f32': 0.1,
    'f64': 0.1,
    'int': 3,
    'nan': 'nan',
    'inf': 'inf',
    'low': '-inf',
    'flag': True,
    'many': {'x': [0.5, 'nan']},
  }
  assert math.isnan(float(line['nan']))


def test_lone_surrogates_of_a_model_are_written(tmp_path):
  with _open(tmp_path) as w:
    w.rollouts(1, [{'completion': 'a\ud800b'}])
  (line,) = run_writer.read(tmp_path / run_writer.ROLLOUTS)
  assert line['completion'] == 'a\ud800b'


def test_broken_lines_are_skipped_with_a_warning(tmp_path, caplog):
  path = tmp_path / run_writer.METRICS
  path.write_bytes(
    b'{"step": 1}\n\xff{\n[]\n{"x": 1}\n{"step": 2}\n{"step": 3}'
  )
  with caplog.at_level(logging.WARNING):
    assert [x['step'] for x in run_writer.read(path)] == [1, 2]
  assert [m.split(': ')[1][:6] for m in caplog.messages] == [
    'line 2',
    'line 3',
    'line 4',
    'line 6',
  ]
  assert list(run_writer.read(tmp_path / 'nothing')) == []


def test_two_trainers_in_one_directory_are_refused(tmp_path):
  with (
    run_lock.hold(tmp_path),
    pytest.raises(ValueError, match='Another process is training in'),
    run_lock.hold(tmp_path),
  ):
    pass
  with run_lock.hold(tmp_path):
    pass


def test_a_directory_made_for_nothing_goes_away(tmp_path):
  with run_lock.hold(tmp_path / 'new'):
    assert (tmp_path / 'new').exists()
    assert run_lock.locked(tmp_path / 'new') is None
  assert not (tmp_path / 'new').exists()
  with run_lock.hold(tmp_path / 'new'):
    (tmp_path / 'new' / 'file').write_text('')
  assert (tmp_path / 'new' / 'file').exists()
  (tmp_path / 'empty').mkdir()
  with run_lock.hold(tmp_path / 'empty'):
    pass
  assert (tmp_path / 'empty').exists()


def test_lines_are_on_the_disk_after_sync(tmp_path, monkeypatch):
  """A power cut keeps what was synced: all lines, and the folder's entries."""
  synced = {}
  real = os.fsync

  def fsync(fd):
    real(fd)
    path = os.readlink(f'/proc/self/fd/{fd}')
    synced[path] = os.fstat(fd).st_size

  monkeypatch.setattr(os, 'fsync', fsync)
  with _open(tmp_path) as w:
    w.eval(0, {'eval/accuracy': 0.0})
    w.metrics(1, {'reward': 0.5})
    w.rollouts(1, [{'question': '?'}])
    synced.clear()
    w.sync()
  sizes = {str(tmp_path / n): (tmp_path / n).stat().st_size for n in _FILES}
  assert {k: synced.get(k) for k in sizes} == sizes
  assert str(tmp_path) in synced


def test_a_full_disk_names_the_file_and_what_to_do(tmp_path):
  with pytest.raises(OSError, match=r'full could not .* free some space') as e:
    run_writer.append('/dev/full', 1, {'reward': 1.0})
  assert e.value.errno == errno.ENOSPC
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match=r'file could not .* you may write there'):
    _open(tmp_path / 'file')


def test_wall_clock_keys():
  names = ['step_time', 'timing_s/rollout', 'perf/tokens_per_s']
  assert all(map(run_writer.is_wall_clock, names))
  assert not any(
    map(run_writer.is_wall_clock, ['reward', 'step_times', 'perfect'])
  )


def test_other_processes_write_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(run_writer.hosts, 'first', lambda: False)
  _train(tmp_path / 'x', 1, 2)
  assert not (tmp_path / 'x').exists()
  assert capsys.readouterr().out == ''


def test_lines_of_a_log(tmp_path, capsys, monkeypatch):
  now = iter([0.0, 30.0, 32.0, 34.0, 36.0])
  monkeypatch.setattr(run_writer.time, 'perf_counter', lambda: next(now))
  with _open(tmp_path, command='train it', console_every=2) as w:
    for s in range(1, 5):
      w.metrics(s, {'reward': s / 8, 'loss': 1.0, 'entropy': float('nan')})
  assert capsys.readouterr().out.splitlines() == [
    'step 2/4 reward 0.25 entropy nan 2 s/step, 0:04 left',
    'step 4/4 reward 0.5 entropy nan 2 s/step, 0:00 left',
  ]
  assert (tmp_path / 'command.txt').read_text() == 'train it\n'
  assert [run_writer.clock(s) for s in (0, 75, 3675)] == [
    '0:00',
    '1:15',
    '1:01:15',
  ]


def test_bar_on_a_terminal(tmp_path, monkeypatch):
  class Terminal(io.StringIO):
    isatty = lambda self: True

  out = Terminal()
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(
    os, 'environ', os.environ | {'TERM': 'xterm', 'COLUMNS': '100'}
  )
  with _open(tmp_path) as w:
    w.metrics(1, {'reward': 0.25})
    w.eval(1, {'eval/accuracy': 0.5, 'note': '[bold]'})
  assert '1/4' in out.getvalue()
  assert 'reward 0.25' in out.getvalue()
  assert 'eval at step 1: eval/accuracy 0.5' in out.getvalue()


def test_half_a_character_is_written_and_read_back(tmp_path, capsys):
  half = 'a\ud800b'
  path = tmp_path / 'x.jsonl'
  run_writer.append(path, 1, {half: 1.0, 'text': half, 'deep': [{half: half}]})
  (line,) = run_writer.read(path)
  assert line == {'step': 1, half: 1.0, 'text': half, 'deep': [{half: half}]}
  with _open(tmp_path, None) as log:
    log.eval(0, {f'eval/{half}': 1.0})
    log.metrics(1, {half: 1.0, 'reward': 0.5})
    log.rollouts(1, [{'completion': half}])
    log.say(half)
  assert 'a\\ud800b' in capsys.readouterr().out

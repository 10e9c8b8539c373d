import json

from rlvr_jax.reporting import goodput, run_writer


def run(folder, step, steps, now, monkeypatch):
  """perf/goodput of steps of 4 s, 1 s of it compiling, one each 10 s."""
  monkeypatch.setattr(goodput.time, 'time', lambda: now[0])
  options = {'total_steps': 9, 'transcripts': 1}
  with run_writer.open(folder, {'seed': 0}, step=step, **options) as log:
    for s in steps:
      now[0] += 10
      seconds = {'step_time': 4.0, 'timing_s/compile': 1.0}
      log.metrics(s, seconds | {'update_skipped': float(s == 2)})
  lines = run_writer.read(folder / run_writer.METRICS)
  return [x['perf/goodput'] for x in lines if x['step'] in steps]


def test_by_hand_and_of_a_run_that_is_killed(tmp_path, monkeypatch):
  now = [1000.0]
  # The second step was skipped.
  got = run(tmp_path, None, (1, 2, 3), now, monkeypatch)
  assert got == [3 / 10, 3 / 20, 6 / 30]
  now[0] += 70  # it waits, and goes on from step 1
  assert run(tmp_path, 1, (2, 3), now, monkeypatch) == [3 / 110, 6 / 120]
  # Of a directory without the file, from where it goes on.
  (tmp_path / 'run.json').unlink()
  assert run(tmp_path, 3, (4,), now, monkeypatch) == [3 / 10]
  assert json.loads((tmp_path / 'run.json').read_text())['step'] == 3
  # A new run of the same directory begins anew.
  assert run(tmp_path, None, (1,), now, monkeypatch) == [3 / 10]

"""Runs in a bucket: whole objects, one holder, nothing lost and nothing mixed.

tensorstore's and gcsfs's own clients talk to `fake_gcs`. A run of two hosts
that share nothing but a bucket is in `hosts_test`.
"""

import asyncio
import copy
import importlib.util
import json
import pathlib
import tempfile
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import bucket_objects, config, registry, storage
from rlvr_jax.io import checkpoint, committed, manifest
from rlvr_jax.io import load as load_lib
from rlvr_jax.models import sharding, transformer
from rlvr_jax.reporting import run_lock, run_writer

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def server():
  if importlib.util.find_spec('gcsfs') is None:
    pytest.skip('needs gcsfs')  # which reads the environment when imported
  spec = importlib.util.spec_from_file_location(
    'fake_gcs', ROOT / 'tests' / 'fake_gcs.py'
  )
  fake_gcs = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(fake_gcs)
  with fake_gcs.serve() as (store, env), pytest.MonkeyPatch.context() as patch:
    for name, value in env.items():
      patch.setenv(name, value)
    patch.setattr(bucket_objects, 'PAUSE_S', 0.0)
    from gcsfs import retry  # waits seconds before it asks again

    sleep = asyncio.sleep
    quick = types.SimpleNamespace(**vars(asyncio))
    quick.sleep = lambda _: sleep(0.01)
    patch.setattr(retry, 'asyncio', quick)
    yield store


@pytest.fixture
def store(server):
  """The bucket, empty and without faults."""
  server.objects.clear()
  server.seen.clear()
  server.fail, server.refuse = 0.0, lambda method, name: None
  yield server
  storage._buckets.clear()


def another():
  """The run as another program sees it."""
  storage._buckets.clear()
  return storage.bucket('gs://bkt/runs/a')


def state(seed=0):
  return {'w': jnp.arange(6.0).reshape(3, 2) + seed, 'n': jnp.int32(seed)}


def save(*steps, max_to_keep=5, keep_best=None):
  with checkpoint.open(
    'gs://bkt/runs/a', max_to_keep=max_to_keep, keep_best=keep_best
  ) as c:
    for step in steps:
      c.save(step, state(step), {'position': step, 'score': -abs(step - 2)})


def load():
  got, extra, step = checkpoint.load('gs://bkt/runs/a', state())
  for x, want in zip(jax.tree.leaves(got), jax.tree.leaves(state(step))):
    np.testing.assert_array_equal(x, want)
  assert extra['position'] == step
  return step


##### addresses #####


@pytest.mark.parametrize(
  ('name', 'says'),
  [
    ('s3://bkt/a', 's3:// is not supported. Give a folder, or gs://'),
    ('gs://bkt', 'give a path within a bucket'),
    ('gs://bkt//a', 'without empty parts'),
    (pathlib.Path('gs://bkt/a'), 'with two slashes'),
  ],
)
def test_an_address_that_cannot_be_is_refused(name, says):
  with pytest.raises(ValueError, match=says):
    storage.folder(name)


def test_a_bucket_needs_gcsfs(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[gcs\]'"):
    storage.folder('gs://bkt/a')


def test_a_folder_stays_what_it_is(tmp_path):
  assert storage.folder(tmp_path) == tmp_path
  with storage.kept(tmp_path):
    storage.push(tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('script', 'argv', 'says'),
  [
    ('train', ['--config=configs/tiny.py', '--workdir=s3://b/a'], 's3:// is'),
    ('evaluate', ['--workdir=s3://b/a'], 's3:// is not supported'),
    ('compare', ['s3://b/a', 's3://b/b'], 's3:// is not supported'),
    ('signal_map', ['--workdir=s3://b/a'], 's3:// is not supported'),
    ('report', ['s3://b/a', '--out=x.html'], 's3:// is not supported'),
    ('report', ['runs/a', '--out=gs://b/x.html'], '--out must be on a disk'),
    (
      'label',
      ['--config=configs/tiny.py', '--out=gs://b/x.jsonl'],
      '--out must be on a disk',
    ),
    (
      'sweep',
      ['--config=configs/forkme.py', '--workdir=gs://b/a'],
      'must be on a disk. Copy it: gcloud storage cp',
    ),
    ('study', ['gs://b/a'], 'must be on a disk'),
    ('pairs', ['--workdir=s3://b/a', '--out=x'], 's3:// is not supported'),
    ('pairs', ['--workdir=a', '--out=gs://b/x'], '--out must be on a disk'),
  ],
)
def test_a_script_takes_an_address_or_says_why_not(
  script, argv, says, capsys, monkeypatch
):
  monkeypatch.chdir(ROOT)
  monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
  spec = importlib.util.spec_from_file_location(
    f'{script}_script', ROOT / 'scripts' / f'{script}.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.main(argv) == 1
  assert says in capsys.readouterr().err
  assert not pathlib.Path('gs:').exists()
  assert not pathlib.Path('s3:').exists()


def test_a_copy_of_checkpoints_in_a_bucket_is_refused(tmp_path):
  path = tmp_path / storage.COMMITS
  path.parent.mkdir()
  path.write_text('{}')
  with pytest.raises(ValueError, match='give the address, gs://bucket/path'):
    checkpoint.steps(tmp_path)


##### the run's own files #####


def test_files_are_copied_whole_and_come_back(store):
  store.put('runs/a/config.json', b'{}')
  store.put('runs/a/checkpoints/1-x/big', b'12345')
  folder = storage.folder('gs://bkt/runs/a')
  assert [p.name for p in folder.iterdir()] == ['config.json']
  assert folder.name == 'a'
  lines = folder / 'metrics.jsonl'
  lines.write_bytes(b'{"step": 1}\n{"st')  # a line that is being written
  storage.push('gs://bkt/runs/a')
  assert store.data('runs/a/metrics.jsonl') == b'{"step": 1}\n'
  writes = len(store.writes['bkt', 'runs/a/metrics.jsonl'])
  for more in (b'', b'ep": 2}\n'):
    with lines.open('ab') as f:
      f.write(more)
    storage.push('gs://bkt/runs/a')
  assert len(store.writes['bkt', 'runs/a/metrics.jsonl']) == writes + 1
  assert len(store.writes['bkt', 'runs/a/config.json']) == 1
  other = another()
  assert (other.folder / 'metrics.jsonl').read_text() == lines.read_text()


def test_lines_that_two_programs_append_are_all_kept(store):
  first = another()
  (first.folder / 'eval.jsonl').write_text('{"step": 1}\n')
  first.take()
  first.push()
  second, third = another(), another()  # evaluate while the first one trains
  assert second.folder != third.folder
  order = (first, second, first, third, second, first, first)
  for step, bucket in enumerate(order, 2):
    line = {'step': step} | ({} if bucket is first else {'source': 'evaluate'})
    with (bucket.folder / 'eval.jsonl').open('a') as f:
      f.write(f'{json.dumps(line)}\n')
    bucket.push()
  lines = store.data('runs/a/eval.jsonl').decode().splitlines()
  assert [json.loads(x)['step'] for x in lines] == [*range(1, 9)]
  # What an earlier program wrote after it was taken over is left out.
  store.put('runs/a/eval.jsonl', '\n'.join([*lines, '{"step": 9}\n']).encode())
  with (first.folder / 'eval.jsonl').open('a') as f:
    f.write('{"step": 10}\n')
  first.push()
  lines = store.data('runs/a/eval.jsonl').decode().splitlines()
  assert [json.loads(x)['step'] for x in lines] == [*range(1, 9), 10]
  # A run that resumes drops its later lines, and its file stands.
  (first.folder / 'eval.jsonl').write_text('{"step": 1}\n')
  first.push()
  assert store.data('runs/a/eval.jsonl') == b'{"step": 1}\n'


def test_files_are_copied_while_a_run_goes_on(store, monkeypatch):
  monkeypatch.setattr(storage, 'PUSH_S', 0.0)
  monkeypatch.setattr(storage, 'LOOK_S', 0.01)
  with storage.kept('gs://bkt/runs/a'):
    (storage.folder('gs://bkt/runs/a') / 'log.txt').write_text('1')
    until = time.monotonic() + 60
    while 'runs/a/log.txt' not in store.names() and time.monotonic() < until:
      time.sleep(0.01)
    assert store.data('runs/a/log.txt') == b'1'
    (storage.folder('gs://bkt/runs/a') / 'last.txt').write_text('2')
  assert store.data('runs/a/last.txt') == b'2'


@pytest.mark.timeout(60)
def test_two_threads_ask_for_a_folder_first(store, monkeypatch):
  bucket = another()
  make = tempfile.mkdtemp
  others = []

  def mkdtemp(**keys):
    # A push, say of the thread that copies, comes in the middle.
    others.append(threading.Thread(target=bucket.push, daemon=True))
    others[0].start()
    time.sleep(0.2)
    return make(**keys)

  monkeypatch.setattr(storage.tempfile, 'mkdtemp', mkdtemp)
  folder = bucket.folder
  others[0].join()
  assert bucket.folder == folder
  assert len(others) == 1


def test_an_object_is_written_once_a_second(store, monkeypatch):
  monkeypatch.setattr(bucket_objects, 'PAUSE_S', 0.3)
  path = storage.folder('gs://bkt/runs/a') / 'x.txt'
  for text in ('a', 'ab', 'abc'):
    path.write_text(text)
    storage.push('gs://bkt/runs/a')
  times = store.writes['bkt', 'runs/a/x.txt'][-3:]
  assert min(np.diff(times)) > 0.25


def test_a_bucket_that_refuses_says_so(store):
  store.refuse = lambda method, name: 403
  with pytest.raises(
    ConnectionError, match='gs://bkt/runs/a could not be read'
  ):
    storage.folder('gs://bkt/runs/a')
  store.refuse = lambda method, name: 403 if method == 'PUT' else None
  (another().folder / 'x.txt').write_text('a')
  with pytest.raises(ConnectionError, match=r'could not be written .*Look at'):
    storage.push('gs://bkt/runs/a')


##### who trains #####


def test_a_successor_takes_over_and_stops_the_older_program(store):
  save(1, 2)
  first = another()
  with checkpoint.open('gs://bkt/runs/a', max_to_keep=5) as older:
    older.restore(state())
    (first.folder / 'metrics.jsonl').write_text('{"step": 1}\n')
    first.push()
    second = another()
    with checkpoint.open('gs://bkt/runs/a', max_to_keep=5) as younger:
      assert younger.restore(state())[2] == 2
      with pytest.raises(ValueError, match=r'was taken over by process .* on'):
        older.save(3, state(3), {'position': 3})
      assert checkpoint.steps('gs://bkt/runs/a') == [1, 2]
      # Nor do its files replace those of the younger one.
      (second.folder / 'metrics.jsonl').write_text('{"step": 2}\n')
      second.push()
      (first.folder / 'metrics.jsonl').write_text('{"step": 9}\n')
      with pytest.raises(ValueError, match='was taken over'):
        first.push()
      for late in (first.check, lambda: first.commit(3, '3-x', ())):
        with pytest.raises(ValueError, match='was taken over'):
          late()
      assert store.data('runs/a/metrics.jsonl') == b'{"step": 2}\n'
      younger.save(3, state(3), {'position': 3})
  assert load() == 3
  names = json.loads(store.data('runs/a/checkpoints/commits.json'))['steps']
  folders = {n.split('/')[3] for n in store.names() if n.count('/') > 3}
  assert set(names.values()) <= folders


def test_a_program_that_was_taken_over_notices_while_it_trains(
  store, monkeypatch
):
  monkeypatch.setattr(storage, 'LOOK_S', 0.01)
  first = another()
  first.take()
  with storage.kept('gs://bkt/runs/a'):
    storage.check('gs://bkt/runs/a')
    storage.Bucket('bkt/runs/a').take()
    until = time.monotonic() + 60
    while first.lost is None and time.monotonic() < until:
      time.sleep(0.01)
    with pytest.raises(ValueError, match='This program ends'):
      storage.check('gs://bkt/runs/a')


##### checkpoints #####


def test_checkpoints_come_and_go(store):
  save(1, 2, 3, 4, max_to_keep=2, keep_best='score')
  another()
  assert checkpoint.steps('gs://bkt/runs/a') == [2, 3, 4]
  assert checkpoint.best('gs://bkt/runs/a', 'score') == 2
  assert load() == 4
  commits = storage.bucket('gs://bkt/runs/a').commits()['steps']
  kept = {n.split('/')[3] for n in store.names() if n.count('/') > 3}
  assert kept == set(commits.values())
  with pytest.raises(ValueError, match=r'no checkpoint of step 1\. It has: 2'):
    checkpoint.load('gs://bkt/runs/a', state(), step=1)
  # The folders tell what the object would, if somebody removed it.
  del store.objects['bkt']['runs/a/checkpoints/commits.json']
  assert checkpoint.steps('gs://bkt/runs/a') == [2, 3, 4]


def test_a_save_reads_no_array_back(store):
  big = {'w': jnp.arange(1 << 18, dtype=jnp.float32)}
  with checkpoint.open('gs://bkt/runs/a', max_to_keep=1) as c:
    c.save(1, big, {})
    c.wait()
    read = sum(n for method, _, n in store.seen if method == 'GET')
    assert read < 0.05 * big['w'].nbytes
    got, _, _ = c.restore(big)
  np.testing.assert_array_equal(got['w'], big['w'])


def test_a_kill_after_any_write_loses_no_checkpoint(store):
  save(1)
  states, put = [], store._put
  store._put = lambda *args: (
    states.append(copy.copy(store.objects['bkt'])),
    put(*args),
  )[1]
  try:
    save(2, max_to_keep=1)
  finally:
    del store._put
  states.append(copy.copy(store.objects['bkt']))
  newest = []
  for objects in states:
    store.objects['bkt'] = objects
    another()
    folders = committed.place('gs://bkt/runs/a').folders()
    step, faults = manifest.newest_intact(folders)
    assert not faults
    newest.append(step)
  # In the last state but one, arrays and manifest are there, and do not count.
  assert newest == [1] * (len(states) - 1) + [2]
  assert len(states) > 10
  store.objects['bkt'] = states[-2]
  another()
  assert load() == 1
  save(2)
  another()
  assert load() == 2
  folders = {n.split('/')[3] for n in store.names() if n.count('/') > 3}
  assert len(folders) == 2


@pytest.mark.parametrize('damage', ['other bytes', 'gone', 'manifest'])
def test_damages_are_found_and_the_run_falls_back(store, damage):
  save(1, 2)
  under = [n for n in store.names() if '/2-' in n]
  array = max(under, key=lambda n: len(store.data(n)))
  if damage == 'other bytes':
    store.put(array, bytes(len(store.data(array))))
  elif damage == 'gone':
    del store.objects['bkt'][array]
  else:
    store.put(next(n for n in under if n.endswith('manifest.json')), b'{}\n0')
  another()
  with checkpoint.open('gs://bkt/runs/a', max_to_keep=5) as c:
    assert c.restore(state())[2] == 1
    c.save(2, state(2), {'position': 2})
  another()
  assert load() == 2


def test_a_bucket_that_is_not_reached_is_no_damage(store):
  save(1, 2)
  another()
  name = next(n for n in store.names() if n.endswith('manifest.json'))
  store.refuse = lambda method, n: 403 if n == name else None
  with pytest.raises(ConnectionError, match='could not be read'):
    checkpoint.load('gs://bkt/runs/a', state(), step=1)


def test_a_bucket_that_takes_no_more_leaves_earlier_checkpoints(store):
  save(1)
  store.refuse = lambda method, name: (
    403 if method == 'PUT' and '/d/' in name else None
  )
  with checkpoint.open('gs://bkt/runs/a', max_to_keep=1) as c:
    c.save(2, state(2), {'position': 2})
    with pytest.raises(RuntimeError, match='Earlier checkpoints are intact'):
      c.wait()
    store.refuse = lambda method, name: None
    assert checkpoint.steps('gs://bkt/runs/a') == [1]
  save(2)
  assert load() == 2


def test_one_request_in_ten_fails_and_nothing_is_lost(store):
  store.fail = 0.1
  failed = store.failed
  bucket = another()
  (bucket.folder / 'metrics.jsonl').write_text('{"step": 1}\n')
  save(1, 2, max_to_keep=1)
  bucket.push()
  store.fail = 0.0
  assert store.failed > failed
  another()
  assert checkpoint.steps('gs://bkt/runs/a') == [2]
  assert load() == 2
  assert store.data('runs/a/metrics.jsonl') == b'{"step": 1}\n'


def test_an_answer_that_is_lost_is_no_conflict(store):
  bucket, real = another(), bucket_objects.Objects.write
  lost = lambda *args: real(*args) and None
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(bucket_objects.Objects, 'write', lost)
    bucket.take()
    bucket.commit(1, '1-x', ())
    (bucket.folder / 'eval.jsonl').write_text('{"step": 1}\n')
    bucket.push()
  assert bucket.commits()['steps'] == {1: '1-x'}
  assert store.data('runs/a/eval.jsonl') == b'{"step": 1}\n'


def test_two_programs_that_take_over_at_once_are_told_apart(store):
  buckets = [storage.Bucket('bkt/runs/a') for _ in range(4)]
  threads = [threading.Thread(target=b.take) for b in buckets]
  for t in threads:
    t.start()
  for t in threads:
    t.join()
  held = 0
  for bucket in buckets:
    try:
      bucket.check()
      held += 1
    except ValueError:
      pass
  assert held == 1


def take_over(first, log, store):
  """Between two steps of the run that is `log`'s."""
  log.metrics(1, {'reward': 1.0})
  log.sync()
  assert store.data('runs/a/metrics.jsonl').count(b'\n') == 1
  storage.Bucket('bkt/runs/a').take()
  until = time.monotonic() + 60
  while first.lost is None and time.monotonic() < until:
    time.sleep(0.01)
  log.metrics(2, {'reward': 1.0})


def test_a_run_that_was_taken_over_ends_at_its_next_step(store, monkeypatch):
  line = b'{"step": 1, "reward": 1.0}\n'
  monkeypatch.setattr(storage, 'LOOK_S', 0.01)
  first = another()
  c = config.load(str(ROOT / 'configs' / 'tiny.py'))
  with run_lock.hold('gs://bkt/runs/a'):
    first.take()
    log = run_writer.open(
      'gs://bkt/runs/a', c, step=None, total_steps=9, transcripts=0
    )
    with pytest.raises(ValueError, match='was taken over by'), log:
      take_over(first, log, store)
  assert store.data('runs/a/metrics.jsonl') == line


def test_a_run_in_a_bucket_is_a_model(store):
  model = 'tiny(layers=1, width=32)'
  shapes, _ = sharding.params_shardings(
    transformer.Decoder(registry.get('model', model)()),
    sharding.make_mesh((1, -1, 1)),
  )
  rng = np.random.default_rng(0)
  make = lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32)
  params = jax.tree.map(make, shapes)
  with checkpoint.open('gs://bkt/runs/a', max_to_keep=1) as c:
    c.save(3, {'params': params, 'more': jnp.zeros(2)}, {})
  values = {'model': {'name': model, 'param_dtype': 'float32'}}
  store.put('runs/a/config.json', json.dumps(values).encode())
  another()
  loaded = load_lib.read('gs://bkt/runs/a')
  assert loaded.source == 'gs://bkt/runs/a at step 3, as float32'
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
  with pytest.raises(ValueError, match='s3:// is not supported'):
    load_lib.read('s3://bkt/runs/a')

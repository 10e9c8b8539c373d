"""Only intact checkpoints are restored, after kills and damage of any kind."""

import argparse
import errno
import functools
import json
import logging
import pathlib
import resource
import signal
import subprocess
import sys
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import types
from rlvr_jax.io import checkpoint, committed


def _mesh(n):
  return jax.sharding.Mesh(np.array(jax.devices()[:n]), ('data',))


def _state(seed=0, *, n=4, rows=8):
  mesh = _mesh(n)
  put = lambda x, *spec: jax.device_put(
    x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
  )
  key = jax.random.key(seed)
  return types.TrainState(
    step=put(jnp.int32(seed)),
    params={
      'w': put(jax.random.normal(key, (rows, 2)), 'data'),
      'b/c': put(jnp.full((3,), seed, jnp.bfloat16)),
    },
    opt_state=({'mu': put(jnp.zeros((rows, 2)), 'data')}, ()),
  )


def _abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


def _bits(state):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def _save(workdir, *seeds, max_to_keep=5):
  with checkpoint.open(workdir, max_to_keep=max_to_keep) as c:
    for seed in seeds:
      c.save(seed, _state(seed), {'position': 10 * seed})


def test_restores_every_bit_onto_another_mesh(tmp_path):
  _save(tmp_path, 3)
  for n in (1, 2, 8):
    want = _abstract(_state(n=n))
    state, extra, step = checkpoint.load(tmp_path, want)
    assert (step, extra) == (3, {'position': 30})
    assert _bits(state) == _bits(_state(3))
    assert jax.tree.structure(state) == jax.tree.structure(want)
    for x, w in zip(jax.tree.leaves(state), jax.tree.leaves(want)):
      assert x.sharding.is_equivalent_to(w.sharding, x.ndim)
      assert x.dtype == w.dtype


def test_other_key_kinds_survive(tmp_path):
  for impl in ('rbg', 'unsafe_rbg', 'threefry2x32'):
    state = {'key': jax.random.key(5, impl=impl), 'raw': jax.random.PRNGKey(7)}
    with checkpoint.open(tmp_path / impl, max_to_keep=1) as c:
      c.save(1, state, {})
      got, _, _ = c.restore(_abstract(state))
    assert got['key'].dtype == state['key'].dtype
    assert jax.random.bits(got['key']) == jax.random.bits(state['key'])
    np.testing.assert_array_equal(got['raw'], state['raw'])


def test_nothing_there(tmp_path):
  assert checkpoint.load(tmp_path, _abstract(_state())) is None
  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    assert c.restore(_abstract(_state())) is None
  with pytest.raises(ValueError, match=r'no checkpoint of step 7\. It has'):
    checkpoint.load(tmp_path, _abstract(_state()), step=7)
  with pytest.raises(ValueError, match='max_to_keep is 0'):
    checkpoint.open(tmp_path, max_to_keep=0)


def test_what_happens_after_save_does_not_change_what_is_saved(tmp_path):
  x = jnp.arange(1 << 20, dtype=jnp.float32)
  want = np.array(x)
  bump = jax.jit(lambda x: x + 1, donate_argnums=0)
  host, extra = np.arange(4, dtype=np.int32), {'seen': [1]}
  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    c.save(1, {'x': x, 'host': host}, extra)
    host += 1
    extra['seen'].append(2)
    for _ in range(20):
      x = bump(x)
    x.block_until_ready()
    got, extra, _ = c.restore(_abstract({'x': x, 'host': jnp.arange(4)}))
  assert extra == {'seen': [1]}
  np.testing.assert_array_equal(got['x'], want)
  np.testing.assert_array_equal(got['host'], np.arange(4))


def test_part_of_a_checkpoint(tmp_path):
  _save(tmp_path, 1, 2)
  want = _abstract(_state()).replace(opt_state=None)
  state, _, step = checkpoint.load(tmp_path, want, step=1, partial=True)
  assert step == 1
  assert _bits(state.params) == _bits(_state(1).params)
  with pytest.raises(ValueError, match=r'opt_state.0.mu: only in the check'):
    checkpoint.load(tmp_path, want)


def test_mismatch_names_all_differences_at_once(tmp_path):
  _save(tmp_path, 1)
  state = _state()
  params = {
    'w': jnp.zeros((8, 3)),
    'b/c': jnp.zeros((3,), jnp.float32),
    'new': jnp.zeros(1),
  }
  want = _abstract(state.replace(params=params))
  with pytest.raises(ValueError) as e:
    checkpoint.load(tmp_path, want)
  text = str(e.value)
  assert 'params.w: float32[8, 2] in the checkpoint, float32[8, 3] w' in text
  assert 'params.b/c: bfloat16[3] in the checkpoint, float32[3] want' in text
  assert 'params.new: missing in the checkpoint' in text
  assert 'params.w' in text
  assert 'step:' not in text


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def _zero(path):
  path.write_bytes(bytes(path.stat().st_size))


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _delete(path):
  path.unlink()


@pytest.mark.parametrize('damage', [_truncate, _zero, _flip, _delete])
def test_any_damaged_file_falls_back_to_the_one_before(
  tmp_path, damage, caplog
):
  _save(tmp_path, 1, 2)
  newest = tmp_path / 'checkpoints' / '2'
  want, bits = _abstract(_state()), _bits(_state(1))
  damaged = 0
  for path in sorted(p for p in newest.rglob('*') if p.is_file()):
    before = path.read_bytes()
    if not before and damage is not _delete:
      continue
    damage(path)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      state, extra, step = checkpoint.load(tmp_path, want)
    assert (step, extra) == (1, {'position': 10}), path
    assert _bits(state) == bits
    assert 'Checkpoint of step 2 is unusable: ' in caplog.messages[0]
    assert path.name in caplog.messages[0]
    assert caplog.messages[1] == 'Going on from the checkpoint of step 1.'
    path.write_bytes(before)
    damaged += 1
  assert damaged >= 8
  assert checkpoint.load(tmp_path, want)[2] == 2


def test_all_bad_is_an_error_and_not_a_fresh_start(tmp_path):
  _save(tmp_path, 1, 2)
  root = tmp_path / 'checkpoints'
  (root / '3').mkdir()
  for step in ('1', '2'):
    _truncate(root / step / 'manifest.json')
  with pytest.raises(RuntimeError) as e:
    checkpoint.load(tmp_path, _abstract(_state()))
  text = str(e.value)
  assert 'step 3: manifest.json cannot be read (No such file' in text
  assert 'step 1: manifest.json cannot be read' in text
  assert 'use a new workdir' in text


def test_bad_later_steps_never_push_out_a_good_one(tmp_path):
  _save(tmp_path, 10, 20, 30)
  for step in (20, 30):
    _delete(tmp_path / 'checkpoints' / str(step) / 'extra' / 'extra.json')
  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    assert c.restore(_abstract(_state()))[2] == 10
    c.save(15, _state(15), {})
    assert c.restore(_abstract(_state()))[2] == 15
    c.save(20, _state(20), {})
  assert checkpoint.steps(tmp_path) == [20]
  got, _, _ = checkpoint.load(tmp_path, _abstract(_state()))
  assert _bits(got) == _bits(_state(20))


def test_what_is_saved_is_never_written_again(tmp_path):
  with checkpoint.open(tmp_path, max_to_keep=2) as c:
    c.save(4, _state(1), {'n': 1})
    for step in (4, 3):
      with pytest.raises(ValueError, match=f'of step {step} would not be the'):
        c.save(step, _state(2), {'n': 2})
    got, extra, step = c.restore(_abstract(_state()))
  assert (step, extra) == (4, {'n': 1})
  assert _bits(got) == _bits(_state(1))
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['4']


def test_no_array_is_read_twice_in_a_save(tmp_path, monkeypatch):
  opened = []
  read = pathlib.Path.open

  def counting(self, mode='r', *args, **kwargs):
    if mode == 'rb' and self.parent.name == 'd':
      opened.append(self.name)
    return read(self, mode, *args, **kwargs)

  monkeypatch.setattr(pathlib.Path, 'open', counting)
  _save(tmp_path, 1)
  folder = tmp_path / 'checkpoints' / '1'
  data = [p.name for p in folder.rglob('ocdbt.process_*/d/*')]
  assert data
  assert sorted(n for n in opened if n in data) == sorted(data)
  assert not [p for p in folder.iterdir() if p.name.startswith('sums')]


def test_a_damaged_one_is_removed_only_by_the_next_save(tmp_path):
  _save(tmp_path, 1, 2)
  _truncate(tmp_path / 'checkpoints' / '2' / 'manifest.json')
  with checkpoint.open(tmp_path, max_to_keep=2) as c:
    assert c.restore(_abstract(_state()))[2] == 1
  assert checkpoint.steps(tmp_path) == [1, 2]
  with checkpoint.open(tmp_path, max_to_keep=2) as c:
    c.restore(_abstract(_state()))
    c.save(2, _state(5), {'n': 5})
  assert checkpoint.load(tmp_path, _abstract(_state()))[1] == {'n': 5}


def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
  """Else a run would resume from an earlier step and remove the later one."""
  _save(tmp_path, 1, 2)

  def refuse(path, *_, **__):
    raise PermissionError(errno.EACCES, 'Permission denied', str(path))

  monkeypatch.setattr(pathlib.Path, 'open', refuse)
  with pytest.raises(RuntimeError) as e:
    checkpoint.load(tmp_path, _abstract(_state()))
  assert 'may not be read: let this user read it' in str(e.value)
  assert 'step 1' not in str(e.value)
  with pytest.raises(PermissionError, match='let this user read it'):
    checkpoint.extra(tmp_path)


def test_where_nothing_may_be_written(tmp_path, monkeypatch):
  def refuse(*_):
    raise PermissionError(errno.EACCES, 'Permission denied')

  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    c.save(1, _state(1), {})
    c.wait()
    monkeypatch.setattr(committed._Sealed, 'create', refuse)
    with pytest.raises(PermissionError) as e:
      c.save(2, _state(2), {})
  assert f'step 2 could not be written to {tmp_path}' in str(e.value)
  assert 'Let this user write there' in str(e.value)
  assert 'goes on from the checkpoint of step 1' in str(e.value)


def test_checkpoints_of_another_layout_are_named(tmp_path):
  folder = tmp_path / 'checkpoints' / '1'
  folder.mkdir(parents=True)
  body = '{"files": {}}'
  crc = f'{zlib.crc32(body.encode()):08x}'
  (folder / 'manifest.json').write_text(f'{body}\n{crc}')
  with pytest.raises(RuntimeError, match='step 1: another version of this'):
    checkpoint.load(tmp_path, _abstract(_state()))


def test_keeps_the_newest_and_the_best(tmp_path):
  scores = {1: 0.1, 2: 0.9, 3: 0.3, 4: None, 5: 0.2}
  with checkpoint.open(tmp_path, max_to_keep=2, keep_best='best') as c:
    for step, score in scores.items():
      c.save(step, _state(step), {'best': score})
  assert checkpoint.steps(tmp_path) == [2, 4, 5]


@pytest.mark.parametrize(
  'text', ['', '{', '[1]', 'null', '{"best": "high"}', '{"best": 0.8}']
)
def test_a_damaged_score_ends_no_save(tmp_path, caplog, text):
  """It counts as none, is logged once, and the best of the others is kept."""
  scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.3, 5: 0.2}
  with checkpoint.open(tmp_path, max_to_keep=1, keep_best='best') as c:
    for step, score in scores.items():
      c.save(step, _state(step), {'best': score})
      c.wait()
      if step == 2:
        (tmp_path / 'checkpoints' / '2' / 'extra' / 'extra.json').write_text(
          text
        )
        assert checkpoint.best(tmp_path, 'best') is None
  assert checkpoint.steps(tmp_path) == [3, 5]
  assert checkpoint.best(tmp_path, 'best') == 3
  warnings = [m for m in caplog.messages if 'is damaged: extra/extra.json' in m]
  assert len(warnings) == 1
  assert str(tmp_path / 'checkpoints' / '2') in warnings[0]


@pytest.mark.parametrize('value', ['x', None, [1], {}, float('nan')])
def test_what_is_no_number_is_no_score(tmp_path, value):
  with checkpoint.open(tmp_path, max_to_keep=1, keep_best='best') as c:
    c.save(1, _state(1), {'best': 0.1})
    c.save(2, _state(2), {'best': value})
    c.save(3, _state(3), {})
  assert checkpoint.steps(tmp_path) == [1, 3]


def test_the_newest_small_values_that_are_whole(tmp_path):
  assert checkpoint.extra(tmp_path) is None
  _save(tmp_path, 1, 2)
  assert checkpoint.extra(tmp_path) == {'position': 20}
  (tmp_path / 'checkpoints' / '2' / 'extra' / 'extra.json').write_text(
    '{"position": 0}'
  )
  assert checkpoint.extra(tmp_path) == {'position': 10}
  _delete(tmp_path / 'checkpoints' / '1' / 'manifest.json')
  assert checkpoint.extra(tmp_path) is None


def test_strays_of_a_kill(tmp_path, caplog):
  _save(tmp_path, 1)
  root = tmp_path / 'checkpoints'
  unfinished = root / '3.orbax-checkpoint-tmp'  # killed while writing
  (unfinished / 'state').mkdir(parents=True)
  (root / 'retired' / '0').mkdir(parents=True)  # killed while deleting
  assert checkpoint.steps(tmp_path) == [1]
  with pytest.raises(ValueError, match=r'step 3 \(it was begun and not comp'):
    checkpoint.load(tmp_path, _abstract(_state()), step=3)
  assert unfinished.exists()
  with checkpoint.open(tmp_path, max_to_keep=2) as c:
    assert c.restore(_abstract(_state()))[2] == 1
    c.save(3, _state(3), {})
  assert sorted(p.name for p in root.iterdir()) == ['1', '3']
  assert [m for m in caplog.messages if f'{unfinished} was not completed' in m]


def test_disk_full_is_named_and_leaves_the_earlier_ones(tmp_path):
  big = lambda seed: {'x': jax.random.bits(jax.random.key(seed), (1 << 18,))}
  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    c.save(1, big(1), {})
    c.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
    try:
      c.save(2, big(2), {})
      with pytest.raises(OSError, match='max_to_keep') as e:
        c.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
      signal.signal(signal.SIGXFSZ, ignored)
    assert e.value.errno == errno.ENOSPC
    assert f'step 2 could not be written to {tmp_path}' in str(e.value)
    assert 'goes on from the checkpoint of step 1; later steps are lost' in str(
      e.value
    )
    root = tmp_path / 'checkpoints'
    assert [p.name for p in root.iterdir()] == ['1']
    c.wait()  # reported once
    c.save(3, big(3), {})
    got, _, step = c.restore(_abstract(big(0)))
  assert step == 3
  np.testing.assert_array_equal(got['x'], big(3)['x'])


def test_writes_that_end_late_print_no_stack(monkeypatch):
  unraisable = []
  monkeypatch.setattr(sys, 'unraisablehook', unraisable.append)
  checkpoint._quieten_orbax.__wrapped__()
  make = lambda text: argparse.Namespace(exc_value=RuntimeError(text))
  sys.unraisablehook(make('Event loop is closed'))
  assert unraisable == []
  other = make('something else')
  sys.unraisablehook(other)
  assert unraisable == [other]


def test_an_error_of_the_background_surfaces_at_the_next_save(
  tmp_path, monkeypatch
):
  def fail(code, *_):
    raise OSError(code, 'injected')

  with checkpoint.open(tmp_path, max_to_keep=1) as c:
    c.save(1, _state(1), {})
    c.wait()
    with monkeypatch.context() as m:
      full = functools.partial(fail, errno.ENOSPC)
      m.setattr(checkpoint.manifest, 'write', full)
      c.save(2, _state(2), {})
      with pytest.raises(OSError, match='the disk is full'):
        c.save(3, _state(3), {})
      broken = functools.partial(fail, errno.EIO)
      m.setattr(checkpoint.manifest, 'write', broken)
      c.save(4, _state(4), {})
      with pytest.raises(RuntimeError, match=r'step 4 .* Cause: OSError'):
        c.close()
  assert checkpoint.steps(tmp_path) == [1]
  assert checkpoint.load(tmp_path, _abstract(_state()))[2] == 1


_KILLED = """
import sys
import jax.numpy as jnp
from rlvr_jax.io import checkpoint, committed
c = checkpoint.open(sys.argv[1], max_to_keep=1)
want = {'x': jnp.zeros(1000)}
found = c.restore(want)
step = found[2] if found else 0
assert not found or bool((found[0]['x'] == step).all())
print(step, flush=True)
while True:
  step += 1
  c.save(step, {'x': jnp.full(1000, float(step))}, {'position': step})
  print(step, flush=True)
"""


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
  rng = np.random.default_rng(0)
  want = {'x': jnp.zeros(1000)}
  last = 0
  for _ in range(3):
    child = subprocess.Popen(
      [sys.executable, '-c', _KILLED, str(tmp_path)],
      stdout=subprocess.PIPE,
      text=True,
    )
    # The step it resumes from, then two saves, the first of which is complete.
    start, one, _ = (int(child.stdout.readline()) for _ in range(3))
    assert start == last
    time.sleep(rng.uniform(0, 0.3))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    state, extra, last = checkpoint.load(tmp_path, want)
    assert last >= one
    assert extra == {'position': last}
    np.testing.assert_array_equal(state['x'], np.full(1000, last))
  root = tmp_path / 'checkpoints'
  assert all(
    json.loads(p.read_text()) for p in root.glob('[0-9]/extra/extra.json')
  )

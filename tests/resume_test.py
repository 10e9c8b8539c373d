"""What may differ when a run resumes, and what is refused by name."""

import json
import pathlib

import jax.numpy as jnp
import pytest

from rlvr_jax import config, resume
from rlvr_jax.io import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = {'seed': 0, 'total_steps': 4, 'optim': {'lr': 0.1}, 'eval_every': 2}


def saved(folder, extra, step=1):
  with checkpoint.open(folder, max_to_keep=9) as c:
    c.save(step, {'x': jnp.zeros(3)}, extra)
  return folder


def write(folder, values):
  (folder / 'config.json').write_text(json.dumps(values))


def test_another_config_is_refused_with_all_keys(tmp_path):
  write(tmp_path, _CONFIG)
  other = {'seed': 1, 'total_steps': 2, 'optim': {'lr': 0.1, 'b': 'x'}}
  with pytest.raises(ValueError) as e:
    resume.check_config(tmp_path, other)
  text = str(e.value)
  assert 'Use a new workdir' in text
  assert 'seed: 0 -> 1' in text
  assert 'total_steps: 4 -> 2 (it may only grow)' in text
  assert "optim.b: '(absent)' -> 'x'" in text
  assert 'optim.lr' not in text
  assert 'eval_every' not in text
  resume.check_config(tmp_path, _CONFIG | {'total_steps': 9, 'eval_every': 3})
  # Reading the result of a finished run: newer keys are free.
  later = _CONFIG | {'optim': {'lr': 0.1, 'b': 'x'}}
  resume.check_config(tmp_path, later, newer=True)
  with pytest.raises(ValueError, match='seed: 0 -> 1'):
    resume.check_config(tmp_path, later | {'seed': 1}, newer=True)


@pytest.mark.parametrize(
  'text', ['[1]', '3', '"x"', 'null', '{', '', '[' * 100_000, '\xff']
)
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
  path = tmp_path / 'config.json'
  path.write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match=r'config\.json is not a config') as info:
    resume.check_config(tmp_path, _CONFIG)
  assert len(str(info.value)) < 600
  with pytest.raises(ValueError, match=r'config\.json is not a config'):
    config.of_run(tmp_path, [])


def test_a_config_of_other_types_differs_by_name(tmp_path):
  bad = _CONFIG | {'total_steps': 'x', 'seed': [1]}
  (tmp_path / 'config.json').write_text(json.dumps(bad))
  with pytest.raises(ValueError, match=r'total_steps: .*x.* -> ') as info:
    resume.check_config(tmp_path, _CONFIG)
  assert 'seed: [1] -> ' in str(info.value)
  with pytest.raises(ValueError, match=r'total_steps='):
    config.of_run(tmp_path, [])


@pytest.mark.parametrize('beside', [None, 'same', 'changed'])
def test_a_checkpoint_knows_its_config(tmp_path, beside):
  """Also if config.json is deleted, or edited along with the config."""
  kept = resume.remember(_Plain(_CONFIG), {})
  saved(tmp_path, kept)
  other = _CONFIG | {'seed': 7}
  if beside:
    write(tmp_path, other if beside == 'changed' else _CONFIG)
  with pytest.raises(ValueError, match='seed: 0 -> 7'):
    resume.check_config(tmp_path, other)
  if beside != 'changed':
    resume.check_config(tmp_path, _CONFIG | {'eval_every': 1})


class _Plain(dict):
  """A config that `config.to_json` accepts."""


def test_the_newest_readable_checkpoint_decides(tmp_path):
  saved(tmp_path, resume.remember(_Plain(_CONFIG), {}), 1)
  saved(tmp_path, resume.remember(_Plain(_CONFIG), {}), 2)
  (tmp_path / 'checkpoints' / '2' / 'extra/extra.json').write_text('{}')
  with pytest.raises(ValueError, match='seed: 0 -> 7'):
    resume.check_config(tmp_path, _CONFIG | {'seed': 7})


def test_every_key_of_the_table_is_a_key():
  known = config.flatten(config.load(f'{ROOT}/configs/tiny.py:smoke'))
  assert [k for k in resume.MAY_CHANGE if k not in known] == []


@pytest.mark.parametrize(
  'change',
  [
    'mesh.shape=(2, -1, 1)',
    'groups_per_micro_batch=2',
    'logits_chunk=7',
    'model.remat=True',
    'model.attention=blocked',
    'parts_per_group=2',
    'eval.batch_size=2',
    'max_skipped_updates=9',
  ],
)
def test_how_fast_it_runs_may_change(tmp_path, change):
  load = lambda *x: config.load(f'{ROOT}/configs/tiny.py:smoke', x)
  (tmp_path / 'config.json').write_text(config.to_json(load()))
  saved(tmp_path, resume.remember(load(), {}))
  resume.check_config(tmp_path, load(change))
  for other in ('seed=1', 'temperature=0.5', 'model.dtype=bfloat16'):
    key = other.partition('=')[0]
    with pytest.raises(ValueError, match=key):
      resume.check_config(tmp_path, load(change, other))


def test_other_content_is_refused_by_name_and_value(tmp_path):
  c = _Plain({'env': "jsonl(path='d.jsonl')", 'model': {'name': 'm'}})
  now = {'env: tasks': '3 tasks, aa', 'model.name: weights': 'bb'}
  extra = resume.remember(c, now)
  resume.check_content(c, tmp_path, extra, now)
  # Only the keys that are known so far are compared.
  resume.check_content(c, tmp_path, extra, {'env: tasks': '3 tasks, aa'})
  resume.check_content(c, tmp_path, None, {'env: tasks': 'x'})
  with pytest.raises(ValueError) as e:
    resume.check_content(c, tmp_path, extra, {'env: tasks': '3 tasks, cc'})
  text = str(e.value)
  assert f'{tmp_path} has a checkpoint made with other data' in text
  assert "jsonl(path='d.jsonl')" in text
  assert 'tasks: 3 tasks, aa then, 3 tasks, cc now' in text
  assert 'use a new workdir' in text
  changed = now | {'model.name: weights': 'cc'}
  with pytest.raises(ValueError, match=r"model.name='m': weights: bb then"):
    resume.check_content(c, tmp_path, extra, changed)
  with pytest.raises(ValueError, match=r'weights: bb then, \(none\) now'):
    resume.check_content(c, tmp_path, extra, {'model.name: tokenizer': 'x'})

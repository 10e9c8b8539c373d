"""What the documents say works: examples as written, names of files, links."""

import inspect
import pathlib
import re
import runpy
import sys
import textwrap
import types

import numpy as np
import pytest

from rlvr_jax import config, config_limits, experiment, registry
from rlvr_jax.envs import arithmetic, dialogue, guessing
from rlvr_jax.evaluation import eval_metrics
from rlvr_jax.io import frozen_model
from rlvr_jax.models import presets, sharding
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import answer_format, base
from rlvr_jax.rollouts import context

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [
  ROOT / name
  for name in ('README.md', 'CONTRIBUTING.md', 'docs/USE.md', 'docs/LAYOUT.md')
]
REGISTERED = {
  'A reward': answer_format,
  'An estimator': estimators,
  'A context': context,
  'A task': arithmetic,
  'A model': presets,
}
COMMON = ROOT / 'configs' / 'common.py'


def examples() -> dict[str, list[str]]:
  """{heading of CONTRIBUTING.md: its blocks of Python}."""
  text = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
  sections = re.split(r'^##+ ', text, flags=re.M)
  found = {
    x.partition('\n')[0]: re.findall(r'```python\n(.*?)```', x, re.S)
    for x in sections
  }
  return {heading: blocks for heading, blocks in found.items() if blocks}


@pytest.fixture(scope='module', autouse=True)
def registered():
  kinds = ('reward', 'estimator', 'context', 'env', 'model')
  before = {kind: registry.names(kind) for kind in kinds}
  for heading, module in REGISTERED.items():
    exec(examples()[heading][0], vars(module))
  yield
  for kind in kinds:  # other tests see what they would have seen
    for name in set(registry.names(kind)) - set(before[kind]):
      del registry._FUNCTIONS[kind][name]


def edited(path, anchor: str, line: str) -> dict:
  """The names of a file with `line` put before the line that has `anchor`."""
  text = pathlib.Path(path).read_text('utf-8')
  at = text.rindex('\n', 0, text.index(anchor)) + 1
  names = {'__name__': 'edited', '__file__': str(path)}
  exec(text[:at] + line + text[at:], names)
  return names


def test_every_example_is_short_and_tested_here():
  source = inspect.getsource(sys.modules[__name__])
  for heading, blocks in examples().items():
    assert f"'{heading}'" in source
    assert all(len(block.splitlines()) < 20 for block in blocks), heading


def test_reward():
  completions = [base.Transcript('', n, None, None) for n in (3, 12)]
  results = registry.get('reward', 'short(limit=5)')([None] * 2, completions)
  assert [x.value for x in results] == [1.0, 0.0]


def test_estimator():
  score, valid = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
  out = registry.get('estimator', 'best_only')(score, valid)
  np.testing.assert_array_equal(out, [0, 1, 0])


def test_context():
  tell = registry.get('context', 'answer_length')
  task = arithmetic.arithmetic()['train'][0]._replace(answer='12')
  assert tell([task], [[None]], 0, 0).feedback == '2 characters.'


def test_task():
  env = registry.get('env', 'squares(test_size=5)')()
  assert env['train'][0].question == 'What is 5 * 5?'
  assert env['train'][0].answer == '25'


def test_model():
  assert registry.get('model', 'smollm2_1.7b')().num_params == 1_711_376_384


def test_world(monkeypatch):
  name = 'rlvr_jax.envs.worlds.thresholds'
  module = types.ModuleType(name)
  exec(examples()['A world'][0], vars(module))
  monkeypatch.setitem(sys.modules, name, module)
  monkeypatch.setitem(guessing.WORLDS, 'thresholds', name)
  spec = "guessing(world='thresholds(size=4)', test_secrets=1, games=1, "
  env = registry.get('env', spec + 'validation_secrets=1)')()
  task = env['train'][0]._replace(answer='2')
  messages = ['>1?', '>2?', '>1?', 'what?', '=3', '=2']
  replies = [
    dialogue.reply(task, messages[: k + 1]).kind for k in range(len(messages))
  ]
  assert replies == ['yes', 'no', 'repeated', 'invalid', 'no', 'finished']
  assert dialogue.posterior(task, messages[:2])[-1] == 0.0


def test_key():
  default, rule = examples()['A config key']
  common = edited(COMMON, '  c.log_transcripts =', default)
  limits = edited(config_limits.__file__, "  'log_transcripts':", rule)
  values = config.flatten(common['base']())
  limits['check'](values)
  limits['check_complete'](values)
  with pytest.raises(ValueError, match='max_transcript_length'):
    config_limits.check_complete(values)  # without the rule
  with pytest.raises(ValueError, match='max_transcript_length=-1'):
    limits['check'](values | {'max_transcript_length': -1})


def test_metric():
  line = examples()['A metric'][0]
  module = edited(eval_metrics.__file__, "      'timeout':", line)
  names = set(module['possible'](2)) - set(eval_metrics.possible(2))
  assert names == {'eval/long', 'eval/long_low', 'eval/long_high'}


def test_role(tmp_path, save_model):
  names = dict(vars(experiment))
  exec(textwrap.dedent(examples()['A role of a second model'][0]), names)
  c = config.load(f'{ROOT}/configs/tiny.py')
  judge = lambda name: names['judge'].func(
    types.SimpleNamespace(
      config=types.SimpleNamespace(
        model=c.model,
        judge=types.SimpleNamespace(
          name=name, max_prompt_length=8, max_completion_length=8
        ),
      ),
      mesh=sharding.make_mesh((1, -1, 1)),
    )
  )
  assert judge('') is None
  opened = judge(str(save_model(tmp_path / 'model')))
  assert isinstance(opened, frozen_model.FrozenModel)
  assert opened.sampler_params is not None


def test_study(tmp_path):
  file = tmp_path / 'study.py'
  file.write_text(examples()['A study'][0])
  c = config.load(f'{file}:arm=no_std')
  assert c.algo.estimate == 'grpo(scale_rewards=none)'
  runs = []
  runpy.run_path(str(file))['sweep'](lambda **run: runs.append(run))
  assert len(runs) == 10
  assert runs[0] == {'arg': 'arm=grpo', 'seed': 0}


def test_pre_commit_has_the_ruff_of_the_tests():
  hooks = (ROOT / '.pre-commit-config.yaml').read_text('utf-8')
  (version,) = re.findall(r'rev: v(\S+)', hooks)
  assert f"'ruff=={version}'" in (ROOT / 'setup.py').read_text('utf-8')


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(path):
  text = path.read_text('utf-8')
  proposed = {'configs/mine.py', 'rlvr_jax/envs/worlds/thresholds.py'}
  names = set(
    re.findall(
      r'(?:rlvr_jax|configs|scripts|tests|docs)/[\w/]+\.(?:py|sh|md|png)', text
    )
  )
  for name in names - proposed:
    assert 'NAME' in name or (ROOT / name).exists(), name
  for link in re.findall(r'\]\(([^)#]+)', text):
    assert (path.parent / link).exists(), link


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_headings_that_a_document_links_exist(path):
  for link in re.findall(r'\]\(([^)]*#[^)]+)', path.read_text('utf-8')):
    file, _, anchor = link.partition('#')
    target = path.parent / file if file else path
    headings = re.findall(r'^#+ (.*)', target.read_text('utf-8'), re.M)
    plain = lambda x: re.sub(r'[^\w -]', '', x.lower()).replace(' ', '-')
    assert anchor in map(plain, headings), link

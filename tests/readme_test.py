"""The examples of the README work, as written, in the files they name."""

import pathlib
import re

import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.envs import arithmetic
from rlvr_jax.models import model_config
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import answer_format, base

README = pathlib.Path(__file__).parents[1] / 'README.md'
MODULES = {
  'short': answer_format,
  'best_only': estimators,
  'squares': arithmetic,
  'smollm2_360m': model_config,
}


@pytest.fixture(scope='module', autouse=True)
def examples():
  blocks = re.findall(r'```python\n(.*?)```', README.read_text(), re.S)
  assert len(blocks) == len(MODULES)
  kinds = ('reward', 'estimator', 'env', 'model')
  before = {kind: registry.names(kind) for kind in kinds}
  for block, module in zip(blocks, MODULES.values(), strict=True):
    assert len(block.splitlines()) < 20
    exec(block, vars(module))
  yield
  for kind in kinds:  # other tests see what they would have seen
    for name in set(registry.names(kind)) - set(before[kind]):
      del registry._FUNCTIONS[kind][name]


def test_reward():
  said = [base.Transcript('', n, None, None) for n in (3, 12)]
  graded = registry.get('reward', 'short(limit=5)')([None] * 2, said)
  assert [g.value for g in graded] == [1.0, 0.0]


def test_estimator():
  score, valid = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
  out = registry.get('estimator', 'best_only')(score, valid)
  np.testing.assert_array_equal(out, [0, 1, 0])


def test_task():
  env = registry.get('env', 'squares(test_size=5)')()
  assert env['train'][0].question == 'What is 5 * 5?'
  assert env['train'][0].answer == '25'


def test_model():
  assert registry.get('model', 'smollm2_360m')().num_params == 361_821_120


def test_layout_names_files_that_exist():
  text = README.read_text()
  for name in re.findall(
    r'(?:rlvr_jax|configs|scripts)/[\w/]+\.(?:py|sh)', text
  ):
    assert (README.parent / name).exists(), name

"""Training holds each copy of the weights that it needs, and no other."""

import gc
import pathlib

import jax
import pytest

from rlvr_jax import config, train
from rlvr_jax.rollouts import collector

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[1]
GAMES = f'{ROOT}/configs/studies/twenty_questions/twenty_questions.py'
SUMS = f'{ROOT}/configs/tiny.py:smoke'
EMBEDDING = (280, 40)  # no other test has this shape


@pytest.fixture
def copies(monkeypatch):
  """Live arrays of the embedding's shape, at each rollout and update."""
  counts = {'rollouts': [], 'update': []}

  def count(stage):
    gc.collect()
    arrays = [x for x in jax.live_arrays() if x.shape == EMBEDDING]
    counts[stage].append(len(arrays))

  def wrap(owner, name, stage):
    function = getattr(owner, name)

    def counted(*args):
      count(stage)
      return function(*args)

    monkeypatch.setattr(owner, name, counted)

  wrap(collector.Collector, '__call__', 'rollouts')
  wrap(train, 'update', 'update')
  return counts


# Held in games: parameters, two moments, the reference, the frozen belief
# model; with adapters the parameters alone, whose base is the reference.
@pytest.mark.parametrize(
  ('config_file', 'more', 'held', 'stops'),
  [
    (
      f'{GAMES}:credit=delta_belief',
      (
        'dialogue.belief=initial',
        'dialogue.max_turns=2',
        'dialogue.max_length=128',
        'eval.max_turns=0',
      ),
      5,
      (1, 2),
    ),
    (SUMS, ('model.lora=lora(rank=2)',), 1, (2,)),
  ],
  ids=['full', 'lora'],
)
def test_the_update_donates_its_state(
  copies, save_model, tmp_path, config_file, more, held, stops
):
  """Pretrained, then resumed; with a reference and a frozen belief model.

  Adapters in one run, of single turns: they resume by the same code.
  """
  spec = 'tiny(layers=1, vocab={}, width={})'.format(*EMBEDDING)
  folder = save_model(tmp_path / 'model', spec=spec)
  overrides = (
    f'model.name={folder}',
    'algo.kl=k3',
    'algo.beta=0.1',
    'max_completion_length=4',
    'train_batch_size=2',
    'num_generations=2',
    'groups_per_micro_batch=2',
    'eval.num_tasks=2',
    'eval.batch_size=8',
    'eval_every=0',
    'save_every=1',
    *more,
  )
  for total_steps in stops:
    c = config.load(config_file, [*overrides, f'total_steps={total_steps}'])
    train.train(c, tmp_path / 'run')
  assert copies['update'] == [held, held]
  assert copies['rollouts'] == [held + 1, held + 1]  # and the sampler's copy

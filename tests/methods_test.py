"""Whole small runs by each method, and which functions go together."""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from rlvr_jax import algorithm, registry, train, types
from rlvr_jax import config as config_lib
from rlvr_jax.io import checkpoint, load
from rlvr_jax.learner import programs
from rlvr_jax.models import sharding

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
TINY = str(pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py') + ':smoke'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'total_steps=2',
  'train_batch_size=8',
  'num_generations=2',
  'groups_per_micro_batch=8',
  'eval.num_tasks=8',
  'eval.batch_size=8',
  'max_completion_length=4',
  'optimizer.learning_rate=1e-2',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, save_model):
  """A random model of one layer, as a folder that has weights."""
  return save_model(tmp_path_factory.mktemp('model'))


@pytest.fixture
def run(tmp_path):
  def go(*overrides):
    c = config_lib.load(TINY, [*SMALL, *overrides])
    train.train(c, tmp_path)
    text = (tmp_path / 'metrics.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]

  return go


def test_supervised_training_lowers_the_loss_of_its_solutions(run):
  first, *_, last = run('method=sft', 'num_generations=1', 'total_steps=8')
  assert first['accuracy'] == last['accuracy'] == 1.0  # of the solutions
  assert first['loss'] > 4.5  # about log 256 of a random byte model
  assert last['loss'] < first['loss'] - 1
  assert 'sampler_trainer/logp_diff_max' not in first


def test_distillation_from_logits_of_itself_has_nothing_to_learn(run, folder):
  lines = run(
    'method=distill',
    f'model.name={folder}',
    f'teacher.name={folder}',
    'algo.distill=loss',
    'algo.divergence=forward',
  )
  assert abs(lines[0]['divergence']) < 1e-5
  assert lines[0]['grad_norm'] < 1e-4


def test_distillation_from_samples_is_the_teacher_s_likelihood(run, folder):
  first, *_ = run(
    'method=distill', f'model.name={folder}', f'teacher.name={folder}'
  )
  # -log p of one's own samples is about the entropy.
  assert first['loss'] == pytest.approx(first['entropy'], abs=0.8)


def test_a_critic_trains_end_to_end(run):
  lines = run('algo.estimate=gae(gamma=1.0, lam=0.95)', 'num_generations=1')
  assert lines[0]['critic/value_mean'] == 0.0  # the head starts at zero
  assert 'critic/loss' in lines[0]
  assert lines[0]['update_skipped'] == 0


def test_remax_compares_with_a_greedy_row(run):
  lines = run('algo.estimate=remax', 'num_generations=1')
  assert lines[-1]['update_skipped'] == 0


def test_the_best_checkpoint_is_what_a_run_is_as_a_model(run, tmp_path):
  run(
    'method=sft',
    'num_generations=1',
    'max_to_keep=1',
    'total_steps=3',
    'keep_best=eval/accuracy',
    'eval_every=1',
    'save_every=1',
  )
  (folder,) = [p.parent for p in tmp_path.rglob('config.json')]
  found = checkpoint.steps(folder)
  extras = [
    json.loads(
      (folder / 'checkpoints' / str(s) / 'extra/extra.json').read_text()
    )
    for s in found
  ]
  lines = (folder / 'eval.jsonl').read_text().splitlines()
  scores = [json.loads(x)['eval/accuracy'] for x in lines]
  assert [e['score'] for e in extras] == [scores[s] for s in found]
  assert checkpoint.best(folder, 'score') in found
  assert (
    f'at step {checkpoint.best(folder, "score")},'
    in load.load(str(folder)).source
  )


# --- every pair -----------------------------------------------------------


def names(kind, **arguments):
  return [arguments.get(name, name) for name in registry.names(kind)]


def settings_of(estimate, surrogate, aggregate):
  return config_lib.load(
    TINY,
    [
      *SMALL,
      f'algo.estimate={estimate}',
      f'algo.surrogate={surrogate}',
      f'algo.aggregate={aggregate}',
      'algo.kl=k3',
      'algo.beta=0.1',
      'algo.entropy_coef=0.01',
      'algo.correction=truncate',
    ],
  )


def test_every_pair_of_names_goes_together():
  """from_config calls each function once, on the others' results."""
  aggregates = names('aggregate', constant='constant(8)')
  pairs = [
    *itertools.product(
      names('estimator', baseline='baseline(0.3)'), ['clip'], ['token_mean']
    ),
    *itertools.product(['grpo', 'gae'], names('surrogate'), aggregates),
  ]
  assert len(pairs) > 60
  for pair in pairs:
    algo = algorithm.from_config(settings_of(*pair).algo)
    assert (algo.critic is not None) == (pair[0] == 'gae')


@pytest.mark.parametrize(
  ('estimate', 'surrogate'),
  [('remax', 'gspo'), ('reinforce_plus_plus', 'kl_cov'), ('gae', 'clip_cov')],
)
def test_the_programs_of_a_run_fit_together(estimate, surrogate):
  """Traced, not compiled: shapes, dtypes, arguments."""
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  c = settings_of(estimate, surrogate, 'token_mean')
  algo = algorithm.from_config(c.algo)
  p, g = c.train_batch_size, c.num_generations
  t = c.max_prompt_length + c.max_completion_length
  of = lambda shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype)
  rows = of((p * g, t))
  batch = types.Batch(
    tokens=of((p * g, t), jnp.int32),
    mask=of((p * g, t), jnp.bool_),
    adv=rows,
    logp_old=rows,
    logp_ref=None,
  )
  architecture = registry.get('model', 'tiny(layers=1, width=32)')()
  built = programs.build(c, mesh, algo, architecture)
  with sharding.use(mesh):
    params = built.abstract.params
    batch, _ = jax.eval_shape(built.prepare, params, batch, rows)
    batch = batch.replace(logp_ref=rows)
    state, metrics = jax.eval_shape(built.update, built.abstract, (batch,))
  assert metrics['loss'].shape == ()
  assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(
    lambda x: x.shape, built.abstract
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'estimate': 'gae(lam=2.0)'}, 'lam=2.0'),
    ({'surrogate': 'clip(low=-1.0)'}, 'low=-1.0'),
    ({'surrogate': 'kl_cov(ratio=0.0)'}, 'ratio=0.0'),
    ({'correction': 'truncate(high=-1.0)'}, 'high=-1.0'),
    ({'aggregate': 'constant(0)'}, 'constant'),
    ({'entropy_coef': float('nan')}, 'entropy_coef=nan'),
    ({'value_clip': -0.1}, 'value_clip=-0.1'),
    ({'estimate': 'gae', 'credit': 'stepwise'}, 'stepwise'),
  ],
)
def test_what_cannot_work_is_refused_at_start(changes, message):
  c = settings_of('grpo', 'clip', 'token_mean')
  c.algo.update(changes)
  with pytest.raises(ValueError, match=message):
    algorithm.from_config(c.algo)

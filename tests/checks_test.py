"""Configs that are refused at start, and those that are not."""

import pathlib
import runpy
import types

import jax
import pytest

from rlvr_jax import checks, registry
from rlvr_jax.evaluation import evaluate, evaluator
from rlvr_jax.learner import programs
from rlvr_jax.models import sharding
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Lazy, Task


def check_algorithm(spec, size, **changes):
  config = types.SimpleNamespace(
    method='rl',
    num_generations=size,
    train_batch_size=4,
    max_resample_batches=0,
    algo=types.SimpleNamespace(estimate=spec),
  )
  vars(config).update(changes)
  estimate = registry.get('estimator', spec)
  critic = estimate if spec.startswith('gae') else None
  algo = types.SimpleNamespace(estimate=estimate, critic=critic, distill=None)
  checks.check_algorithm(config, algo)


@pytest.mark.parametrize('spec', ['grpo', 'dr_grpo', 'rloo', 'pass_at_k'])
def test_groups_of_one_give_relative_estimators_no_signal(spec):
  with pytest.raises(ValueError, match='num_generations=1'):
    check_algorithm(spec, 1)
  check_algorithm(spec, 2)


@pytest.mark.parametrize(
  'spec', ['reinforce', 'psr', 'nsr', 'weighted_reinforce']
)
def test_groups_of_one_are_enough_without_a_group_baseline(spec):
  check_algorithm(spec, 1)


@pytest.mark.parametrize('spec', ['remax', 'reinforce_plus_plus', 'gae'])
def test_groups_of_one_are_enough_with_another_baseline(spec):
  check_algorithm(spec, 1)


def test_a_batch_of_one_row_cannot_be_whitened():
  with pytest.raises(ValueError, match='num_generations=1'):
    check_algorithm('reinforce_plus_plus', 1, train_batch_size=1)


def test_a_critic_does_not_go_with_resampling():
  with pytest.raises(ValueError, match='max_resample_batches=2'):
    check_algorithm('gae', 8, max_resample_batches=2)


def test_other_methods_need_no_group():
  check_algorithm('grpo', 1, method='sft')


BASE = runpy.run_path(
  str(pathlib.Path(__file__).parents[1] / 'configs' / 'common.py')
)['base']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'method': 'dpo'}, "method='dpo' must be one of 'rl', 'sft'"),
    ({'method': 'sft'}, 'num_generations=8 must be 1'),
    ({'method': 'distill'}, 'needs a teacher.name'),
    ({'teacher.name': 'smollm2'}, "is not read by method='rl'"),
    (
      {'method': 'rejection', 'algo.distill': 'loss'},
      "needs method='rl' or 'distill', not 'rejection'",
    ),
  ],
)
def test_methods_that_cannot_work_are_refused(changes, message):
  c = BASE()
  c.update_from_flattened_dict(changes)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  with pytest.raises(ValueError, match=message):
    checks.check_config(c, mesh)


def test_sizes_that_cannot_change_the_result_fit_any_mesh():
  """They are rounded up to equal parts; train_batch_size is refused."""
  c = BASE()
  c.train_batch_size, c.groups_per_micro_batch = 24, 3
  c.eval.batch_size = 5
  for devices, groups, rows in ((1, 3, 5), (2, 6, 6), (4, 12, 8), (8, 24, 8)):
    mesh = sharding.make_mesh((1, -1, 1), jax.devices()[:devices])
    checks.check_config(c, mesh)
    assert programs.prompts_per_micro_batch(c, mesh) == groups
    assert evaluate.batch_size(c, mesh, 64) == rows
    assert evaluate.batch_size(c, mesh, 3) == sharding.whole(3, devices)
    assert c.train_batch_size % groups == 0
  c.groups_per_micro_batch = 5
  with pytest.raises(ValueError, match='multiple of groups_per_micro_batch=5'):
    checks.check_config(c, mesh)
  c.groups_per_micro_batch, c.train_batch_size = 1, 12
  with pytest.raises(ValueError, match=r'multiple of data\*fsdp=8'):
    checks.check_config(c, mesh)


@pytest.mark.parametrize(
  ('samples', 'metric', 'says'),
  [
    (1, 'nonsense', 'There are: eval/accuracy, '),
    (1, 'accuracy', "Did you mean 'eval/accuracy'?"),
    (1, '-eval/ec', "Did you mean 'eval/ece'?"),
    (1, '--eval/ece', 'with a leading - to keep'),
    (1, 'eval/pass@8', 'There are: '),
    (4, 'eval/pass@8', 'eval/pass@4'),
    (8, 'eval/n', 'eval/pass@8'),
    (8, 'eval/won_within@2', 'There are: '),
    (8, 'curves/solve_rates', 'There are: '),
    (8, 'x' * 9999, 'There are: '),
  ],
)
def test_the_metric_to_keep_the_best_by_must_exist(samples, metric, says):
  c = BASE()
  task = registry.get('env', 'arithmetic()')()['test'][0]
  c.eval.samples, c.keep_best = samples, metric
  with pytest.raises(ValueError, match='is no metric of an evaluation') as e:
    evaluator.check_keep_best(c, [task])
  assert says in str(e.value)
  assert len(str(e.value)) < 2000
  for good in ('', 'eval/accuracy', 'eval/mean_length_low', '-eval/brier'):
    c.keep_best = good
    evaluator.check_keep_best(c, [task])


@pytest.mark.parametrize(
  ('split', 'ids'),
  [('test', ['a', 'b']), ('validation', ['v']), ('train', ['t'])],
)
def test_the_split_to_evaluate_on(split, ids):
  env = {'train': ['t'], 'validation': ['v'], 'test': ['a', 'b', 'c']}
  config = types.SimpleNamespace(
    env='x', eval=types.SimpleNamespace(split=split, num_tasks=2)
  )
  assert checks.eval_tasks(config, env) == ids
  config.eval.split = 'valid'
  with pytest.raises(ValueError, match=r'validation \(1 tasks\)'):
    checks.eval_tasks(config, env)


TASK = Task('t-0', 'What is 1 + 1?', '2', 'math', {})


@pytest.mark.parametrize(
  ('env', 'says'),
  [
    ([TASK], r'it returned \[Task.*: an env returns .*sequences of `Task`'),
    (None, 'it returned None: an env returns'),
    ({'train': (t for t in [TASK])}, "split 'train' is <generator"),
    ({'train': [TASK], 'test': 'abc'}, "split 'test' is 'abc'"),
    ({'train': [tuple(TASK)]}, r"'train' has the task \('t-0'"),
    ({'train': [TASK._replace(answer=2)]}, "'t-0' has answer=2, .* type str"),
    ({'train': [TASK], 'test': [TASK._replace(data=None)]}, 'data=None'),
  ],
)
def test_what_an_env_returns_is_checked(env, says):
  registry.register('env', 'mine')(lambda: env)
  try:
    with pytest.raises(ValueError, match=f"env='mine': .*{says}"):
      checks.environment(types.SimpleNamespace(env='mine'))
  finally:
    del registry._FUNCTIONS['env']['mine']


def test_an_env_without_training_tasks_can_only_be_evaluated():
  registry.register('env', 'mine')(lambda: {'test': [TASK], 'more': []})
  c = types.SimpleNamespace(env='mine', train_tasks=0)
  try:
    assert checks.environment(c)['test'] == [TASK]
  finally:
    del registry._FUNCTIONS['env']['mine']
  with pytest.raises(ValueError, match=r"env='mine' has no task in .* 'train'"):
    checks.training_tasks(c, [])


def test_questions_of_the_test_split_are_not_trained_on():
  def check(train, held_out, split='test'):
    c = BASE()
    c.eval.split = split
    checks.check_tasks(c, train, held_out, lambda task: [1], None)

  tasks = [TASK._replace(id=f't-{i}', question=f'{i}?') for i in range(4)]
  check(tasks[:2], tasks[2:])
  with pytest.raises(
    ValueError, match=r"1 of 2 .*such as 't-1' and 't-1', '1\?'"
  ):
    check(tasks[:2], tasks[1:3])
  check(tasks, tasks[:2], 'train')
  games = [t._replace(verifier='guessing') for t in tasks]
  check(games, games)  # as with all_secrets
  check(tasks, [t._replace(answer='another') for t in tasks])


def test_pairs_may_share_a_question():
  env = registry.get('env', 'comparisons(max_value=9, test_size=5)')()
  check = lambda held_out: checks.check_tasks(
    BASE(), env['train'], held_out, lambda task: [1], None
  )
  check(list(env['test']))
  with pytest.raises(ValueError, match='1 of 2 tasks'):
    check([env['test'][0], env['train'][0]])


def test_large_splits_are_compared_where_they_are_read():
  many = Lazy(10**9, lambda i: TASK._replace(id=str(i), question=f'{i}?'))
  with pytest.raises(ValueError, match='1 of 1 tasks'):
    checks.check_tasks(BASE(), many, [many[7]], lambda task: [1], None)
  last = checks.CHECK_PROMPTS  # the first that is not
  checks.check_tasks(BASE(), many, [many[last]], lambda task: [1], None)


@pytest.mark.parametrize(
  ('result', 'says'),
  [
    (lambda tasks, rows: [0.5] * len(rows), 'returned 0.5 for a row'),
    (lambda tasks, rows: rows, 'returned Transcript'),
    (lambda tasks, rows: None, 'returned None'),
    (
      lambda tasks, rows: [base.RewardResult(1.0, {})] * bool(rows),
      'returned 1 rows for 2 completions',
    ),
    (lambda tasks, rows: [float(r.completion) for r in rows], 'could not conv'),
  ],
)
def test_a_reward_is_called_before_anything_compiles(result, says):
  registry.register('reward', 'mine')(lambda t, r: result(t, r))
  try:
    c, tasks = BASE(), registry.get('env', 'arithmetic()')()['train']
    c.reward_funcs = ('outcome', 'mine')
    reward = base.build(c.reward_funcs, (1.0, 1.0))
    with pytest.raises(ValueError, match="reward_funcs: Reward 'mine'") as e:
      checks.check_reward(c, reward, tasks)
    assert says in str(e.value)
  finally:
    del registry._FUNCTIONS['reward']['mine']


@pytest.mark.parametrize(
  ('env', 'specs'),
  [
    ('arithmetic()', ('outcome', 'format(boxed)', 'random', 'brier')),
    ('arithmetic()', ('self_certainty', 'token_entropy', 'answer_probability')),
    (
      "guessing(world='attributes()')",
      ('win', 'invalid', 'length', 'repeated', 'outcome', 'random'),
    ),
    (
      "guessing(world='attributes()')",
      ('all_of(outcome, win(value=1.0))', 'permuted(outcome)', 'contains(a)'),
    ),
    ('steps(chain(depth=4))', ('similarity',)),
  ],
)
def test_rewards_of_every_kind_can_be_called_at_start(env, specs):
  c, tasks = BASE(), registry.get('env', env)()['train']
  c.reward_funcs = specs
  checks.check_reward(c, base.build(specs, [1.0] * len(specs)), tasks)

"""Changing any key of a config changes what a run does.

Each key of configs/common.py stands in one of the tables below, with another
value and, by its table, with what must differ then.
"""

import dataclasses
import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import algorithm, checks, config, enums, registry, train, types
from rlvr_jax.evaluation import evaluate
from rlvr_jax.io import chat_template, frozen_model, load
from rlvr_jax.learner import batches, programs
from rlvr_jax.models import sharding
from rlvr_jax.reporting import run_writer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import episode_end, task_stream

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[1]
TINY = f'{ROOT}/configs/tiny.py:smoke'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'train_batch_size=8',
  'groups_per_micro_batch=8',
  'num_generations=2',
  'max_completion_length=4',
  'eval.num_tasks=8',
  'eval.batch_size=8',
  'total_steps=2',
  'optimizer.schedule=cosine',
  'algo.kl=k3',
  'algo.beta=0.1',
)

# The compiled programs of training differ.
PROGRAMS = {
  'algo.aggregate': 'seq_mean_token_mean',
  'algo.beta': '0.2',
  'algo.entropy_coef': '0.01',
  'algo.kl': 'k2',
  'algo.surrogate': 'reinforce',
  'groups_per_micro_batch': '4',
  'logits_chunk': '8',
  'max_prompt_length': '60',
  'model.attention': 'blocked',
  'model.dtype': 'bfloat16',
  'model.param_dtype': 'bfloat16',
  'model.lora': 'lora(rank=2)',
  'model.remat': 'True',
  'num_generations': '4',
  'num_iterations': '2',  # the schedule is longer
  'optimizer.b1': '0.8',
  'optimizer.b2': '0.9',
  'optimizer.eps': '1e-3',
  'optimizer.learning_rate': '1e-2',
  'optimizer.max_grad_norm': '0.5',
  'optimizer.schedule': 'linear',
  'optimizer.trainable': 'layers',
  'optimizer.warmup_steps': '1',
  'optimizer.weight_decay': '0.1',
  'parts_per_group': '2',
  'temperature': '0.5',
}
# The same, where there is a critic or a correction.
WITH_CRITIC = {
  'algo.correction': 'truncate',
  'algo.reward_beta': '0.2',
  'algo.reward_kl': 'k2',
  'algo.value_clip': '0.1',
  'algo.value_coef': '0.2',
  'algo.whiten': 'False',
  'optimizer.value_learning_rate': '1e-2',
}
# The same, where there is a teacher.
WITH_TEACHER = {
  'algo.distill': 'add(weight=0.5)',
  'algo.divergence': 'forward',
  'teacher.rate': '0.5',
  'teacher.weights': 'live',
}
# How evaluations draw differs.
DRAWING = {
  'eval.branch': 'True',
  'eval.temperature': '0.5',
  'eval.top_k': '5',
  'eval.top_p': '0.5',
  'max_completion_length': '5',
}
# Tasks, prompts, weights of rows or rewards differ.
INPUTS = {
  'algo.credit': 'stepwise(gamma=0.5)',
  'chat_template_args': "add='x'",
  'algo.estimate': 'rloo',
  'env': "arithmetic(max_value=3, terms=3, ops='+*', instruction='')",
  'mask_truncated_completions': 'True',
  'method': 'rejection',
  'model.name': 'tiny(layers=1, width=48)',
  'reward_funcs': '("inverse(outcome)",)',
  'reward_weights': '(0.5,)',
  'seed': '1',
  'system_prompt': 'Be brief.',
  'train_batch_size': '16',
  'train_tasks': '1',
}
# A run's files or words differ: see `test_keys_of_the_loop`.
LOOP = {
  'eval.num_tasks': '16',
  'eval.samples': '2',
  'eval_every': '1',
  'log_every': '2',
  'log_transcripts': '3',
  'max_logp_diff': '0.0',
  'max_to_keep': '3',
  'save_every': '1',
  'total_steps': '3',
}
# The limits on a dialogue differ.
DIALOGUES = {
  'dialogue.max_invalid_turns': '2',
  'dialogue.max_length': '50',
  'dialogue.max_reply_length': '33',
  'dialogue.max_turns': '3',
  'eval.max_turns': '4',
}
# Tests elsewhere in which the key decides.
ELSEWHERE = {
  'compilation_cache': 'speed_test.py::where_compiled_programs_are_kept',
  'log_to': 'reporting/sinks_test.py::tensorboard_has_what_the_files_have',
  'positions_every': 'speed_test.py::a_run_says_how_fast_it_is',
  'profile_steps': 'speed_test.py::a_trace_of_the_steps',
  'eval.split': 'checks_test.py::the_split_to_evaluate_on',
  'keep_best': 'methods_test.py::the_best_checkpoint',
  'task_sampling': 'train_test.py::killed_again_and_again',
  'min_reward_std': 'rollouts/single_turn_test.py::groups_that_vary',
  'algo.preference': 'preference_run_test.py::simpo_has_no_reference',
  'algo.reward_loss': 'rollouts/reward_scores_test.py::configs_that_cannot_work',
  'algo.pairs': 'learner/loss_test.py::all_pairs_of_a_larger_group',
  'sampling.branch': 'preference_run_test.py::branches_make_the_rows',
  'eval.signals': 'evaluation/branch_test.py::signals_of_samples',
  'algo.turn_statistics': 'algorithm_test.py::members_whose_dialogue_has_ended',
  'dialogue.belief': 'dialogue_run_test.py::a_frozen_belief',
  'dialogue.belief_on_win': 'rollouts/oracle_test.py::the_winning_turn',
  'dialogue.max_elicit_length': 'rollouts/episode_test.py::a_truth_longer',
  'dialogue.max_oracle_length': 'rollouts/oracle_test.py::the_oracles_limits',
  'dialogue.max_oracle_prompt': 'rollouts/oracle_test.py::the_oracles_limits',
  'dialogue.oracle': 'rollouts/oracle_test.py::a_model_answers',
  'dialogue.oracle_batch_size': 'rollouts/oracle_test.py::the_oracles_limits',
  'eval.batch_size': 'evaluation/evaluate_test.py::batch_size_cannot_change',
  'judge.name': 'judge_run_test.py::another_model_judges',
  'judge.max_prompt_length': (
    'rollouts/model_judge_test.py::unreadable_and_too_long'
  ),
  'judge.max_completion_length': 'rollouts/model_judge_test.py::how_it_samples',
  'judge.temperature': 'rollouts/model_judge_test.py::how_it_samples',
  'judge.batch_size': 'rollouts/model_judge_test.py::the_size_of_a_batch',
  'judge.weight': 'rollouts/model_judge_test.py::the_weight_of_judgments',
  'judge.control': 'rollouts/model_judge_test.py::controls',
  'labels': 'label_script_test.py::trains_on_the_tasks_that_have_labels',
  'max_resample_batches': 'train_test.py::killed_again_and_again',
  'max_skipped_updates': 'train_test.py::an_update_that_is_not_finite',
  'metrics_every': 'train_test.py::metrics_of_tokens_come',
  'mesh.shape': 'models/sharding_test.py::parameters_and_moments_are_sharded',
  'model.adapter': 'lora_run_test.py::an_adapter_to_start_from',
  'teacher.name': 'methods_test.py::distillation_from_samples',
  'teacher.accuracy_every': 'teacher_run_test.py::killed_and_resumed',
  'teacher.context': 'teacher_run_test.py::killed_and_resumed',
  'teacher.max_context_length': 'rollouts/lessons_test.py::a_context_too_long',
  'teacher.remove_thinking': 'rollouts/context_test.py::templates_are_those',
  'teacher.rows': 'rollouts/lessons_test.py::rows_that_are_judged',
  'teacher.skip_tokens': 'rollouts/lessons_test.py::rows_that_are_judged',
  'teacher.template': 'rollouts/context_test.py::templates_are_those',
  'verify_timeout_s': 'verifiers/answer_test.py::a_hostile_batch',
  'verifier.approximate': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.domain': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.percent': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.ratios': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.semicolons': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.thousands': 'verifiers/meaning_test.py::conventions_on_which',
  'verifier.boxes': 'verifiers/extraction/extract_test.py::conventions_can_be_chosen',
  'verifier.hedges': 'verifiers/extraction/extract_test.py::conventions_can_be_chosen',
  'verifier.require_mark': 'rollouts/single_turn_test.py::a_mark_can_be_demanded',
  'verifier.truncated': 'verifiers/extraction/extract_test.py::conventions_can_be_chosen',
  'verifier.unfinished_thought': (
    'verifiers/extraction/extract_test.py::conventions_can_be_chosen'
  ),
}
TABLES = (PROGRAMS, WITH_CRITIC, WITH_TEACHER, DRAWING, INPUTS, LOOP)
TABLES += (DIALOGUES, ELSEWHERE)


def test_every_key_is_in_a_table():
  keys = sorted(config.flatten(config.load(TINY)))
  listed = [key for table in TABLES for key in table]
  assert sorted(listed) == keys, 'Put each key into one table, with a change.'


def settings(*changes):
  return config.load(TINY, [*SMALL, *changes])


def traced(*changes):
  """The programs of training, as text without addresses."""
  c = settings(*changes)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  algo = algorithm.from_config(c.algo)
  b = c.train_batch_size * c.num_generations
  t = c.max_prompt_length + c.max_completion_length
  of = lambda dtype=jnp.float32: jax.ShapeDtypeStruct((b, t), dtype)
  critic = of() if algo.critic else None
  batch = types.Batch(
    of(jnp.int32), of(jnp.bool_), of(), of(), of(), value=critic, returns=critic
  )
  if algo.distill is not None:
    batch = batch.replace(taught=of(jnp.bool_))
  built = programs.build(c, mesh, algo, load.load_config(c.model.name))
  with sharding.use(mesh):
    texts = [jax.make_jaxpr(built.update)(built.abstract, (batch,))]
    if algo.critic or algo.correction:
      texts.append(
        jax.make_jaxpr(built.prepare)(built.abstract.params, batch, of())
      )
  return re.sub(r'0x[0-9a-f]+', '', ''.join(map(str, texts)))


@functools.cache
def plain(*changes):
  return traced(*changes)


@pytest.mark.parametrize('key', PROGRAMS)
def test_keys_of_programs(key):
  assert traced(f'{key}={PROGRAMS[key]}') != plain()


@pytest.mark.parametrize('key', WITH_CRITIC)
def test_keys_of_a_critic(key):
  ppo = ('algo.estimate=gae', 'algo.reward_kl=k1', 'algo.reward_beta=0.1')
  assert traced(*ppo, f'{key}={WITH_CRITIC[key]}') != plain(*ppo)


@pytest.mark.parametrize('key', WITH_TEACHER)
def test_keys_of_a_teacher(key):
  taught = ('algo.distill=loss', 'teacher.weights=ema')
  assert traced(*taught, f'{key}={WITH_TEACHER[key]}') != plain(*taught)


def test_the_same_config_makes_the_same_programs():
  assert traced() == plain()


@pytest.mark.parametrize('key', DIALOGUES)
def test_keys_of_dialogues(key):
  both = lambda c: (
    episode_end.dialogue_limits(c),
    episode_end.dialogue_limits(c, evaluating=True),
  )
  assert both(settings(f'{key}={DIALOGUES[key]}')) != both(settings())


@pytest.mark.parametrize('key', DRAWING)
def test_keys_of_drawing(key):
  drawing = lambda *changes: evaluate.sampling(settings(*changes), (0,))
  assert drawing(f'{key}={DRAWING[key]}') != drawing()


def inputs(*changes):
  """Prompts of the first batch, and the rows of a made-up one, as text."""
  c = settings('algo.kl=', 'algo.beta=0.0', *changes)
  env = registry.get('env', c.env)()
  loaded = load.load(c.model.name)
  tokenizer = dataclasses.replace(
    loaded.tokenizer, chat_template=chat_template.CHATML + '{{ add }}'
  ).with_options(c.chat_template_args)
  train_tasks = checks.training_tasks(c, env['train'])
  sampling = checks.task_sampling(c)
  stream = task_stream.TaskStream(train_tasks, c.seed, sampling)
  start = task_stream.Place.of()
  tasks = stream.at(stream.choose(start, 1, c.train_batch_size))
  prompts = [tokenizer.encode_chat(t.question, c.system_prompt) for t in tasks]
  verdicts = (enums.Verdict.CORRECT, enums.Verdict.WRONG)
  said = [base.Transcript('1', 2, enums.Stop.END, v) for v in verdicts]
  graded = base.build(c.reward_funcs, c.reward_weights)(tasks[:2], said)
  turn = np.array([[[-1, 0, 1, 1], [-1, 0, 0, 1]]])
  zeros = np.zeros((1, 2), np.int32)
  score = types.Score(
    reward=np.array([[[0.0, 1.0], [1.0, 1.0]]], np.float32),
    turns=np.ones((1, 2, 2), bool),
    belief=None,
    verdict=np.array([[0, 1]]),
  )
  rolled = types.Rollout(
    turn * 0, zeros + 4, turn, turn * 0.0, np.array([[1, 2]])
  )
  algo = algorithm.from_config(c.algo)
  rows = batches.make_batch(c, algo, rolled, score)
  return repr((prompts, graded, rows.mask, rows.adv, loaded.config))


@pytest.mark.parametrize('key', INPUTS)
def test_keys_of_inputs(key):
  assert inputs(f'{key}={INPUTS[key]}') != inputs()


def test_arguments_of_templates_reach_training_and_asking(tmp_path):
  c = settings('chat_template_args=effort=1')  # ChatML reads no such thing
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  for start in (
    lambda: train.train(c, tmp_path),
    lambda: frozen_model.load_checkpoint(c, tmp_path, 0, mesh),
  ):
    with pytest.raises(ValueError, match="does not read 'effort'"):
      start()


def run(folder, capsys, changes):
  c = settings(*(f'{key}={value}' for key, value in changes.items()))
  train.train(c, folder)
  read = lambda name: list(run_writer.read(folder / name))
  said = capsys.readouterr().out
  evals = read(run_writer.EVAL)
  trained = [r for r in read(run_writer.ROLLOUTS) if r['split'] == 'train']
  return {
    'total_steps': len(read(run_writer.METRICS)),
    'eval_every': len(evals),
    'eval.num_tasks': evals[0]['eval/n'],
    'eval.samples': evals[0]['eval/samples'],
    'log_every': 'step 1/' in said,
    'log_transcripts': sum(r['step'] == 1 for r in trained),
    'max_logp_diff': 'ALARM' in said,
    'save_every': (folder / 'checkpoints' / '1').exists(),
    'max_to_keep': len(list((folder / 'checkpoints').glob('[0-9]*'))),
  }


def test_keys_of_the_loop(tmp_path, capsys):
  """Two runs: each key, changed together with the others, shows its own."""
  start = {'eval.temperature': '1.0', 'reward_funcs': '("random",)'}
  start |= {'save_every': '9', 'max_to_keep': '1', 'log_transcripts': '2'}
  start |= {'max_logp_diff': '9.0', 'log_every': '1', 'eval_every': '9'}
  before = run(tmp_path / 'a', capsys, start)
  after = run(tmp_path / 'b', capsys, start | LOOP)
  assert before.keys() == after.keys() == LOOP.keys()
  assert [k for k in LOOP if before[k] == after[k]] == []
  assert after['max_to_keep'] == 3
  assert after['log_transcripts'] == 3
  config_file = json.loads((tmp_path / 'b' / 'config.json').read_text())
  assert config_file['total_steps'] == 3


@pytest.mark.parametrize('key', ELSEWHERE)
def test_keys_of_other_tests(key):
  file, _, name = ELSEWHERE[key].partition('::')
  text = (ROOT / 'tests' / file).read_text()
  assert re.search(rf'def test_\w*{name}', text)

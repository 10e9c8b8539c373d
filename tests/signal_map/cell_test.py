"""Cells of real runs of tiny models."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import config, train
from rlvr_jax.models import sharding, token_logprobs, transformer
from rlvr_jax.signal_map import advantages, cell, lines, signals, vectors

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'total_steps=1',
  'save_every=1',
  'eval_every=0',
  'train_batch_size=8',
  'num_generations=2',
  'groups_per_micro_batch=2',
  'max_prompt_length=80',
  'max_completion_length=14',
  'eval.num_tasks=2',
  'eval.batch_size=8',
)
GAMES = (
  *SMALL,
  'dialogue.max_turns=3',
  'dialogue.max_length=128',
  'eval.max_turns=0',
)
SETTINGS = cell.Settings(
  prompts=4, samples=8, group=2, rollouts=16, pilot=2, candidates=4,
  imitate=4, partitions=2, sketch=256,
)  # fmt: skip


def trained(folder, spec, overrides):
  c = config.load(f'{ROOT}/configs/{spec}', overrides)
  train.train(c, folder)
  return config.of_run(folder, [])


def measured(c, folder, text, **changes):
  chosen = signals.parse_all(text, c)
  made = cell.Cell(
    c, folder, 1, chosen, SETTINGS._replace(**changes), lambda text: None
  )
  return made, {s.name: lines.lines(made, s)[0] for s in chosen}


@pytest.fixture(scope='module')
def sums(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sums') / 'run'
  return trained(folder, 'tiny.py:smoke', SMALL), folder


@pytest.fixture(scope='module')
def games(tmp_path_factory):
  folder = tmp_path_factory.mktemp('games') / 'run'
  spec = 'studies/twenty_questions/twenty_questions.py:credit=critic'
  return trained(folder, spec, GAMES), folder


def test_vectors_are_gradients_of_log_probs(sums):
  c, folder = sums
  made, _ = measured(c, folder, 'outcome', sketch=0)
  source = made.sources['', False]
  rollout = source.collected.rollout
  row = jnp.asarray(rollout.tokens)[1, 3]
  sampled = np.asarray(rollout.turn)[1, 3] >= 0

  def logp(params):
    out, _ = token_logprobs.token_logprobs(
      params, row[None], model=made.policy.model, temperature=c.temperature
    )
    return (out[0] * sampled).sum()

  with sharding.use(made.mesh), nn.logical_axis_rules(()):
    grads = jax.grad(logp)(made.policy.params)
  square = sum(float((g**2).sum()) for g in jax.tree.leaves(grads))
  at = source.ids[1, 3, 0]
  np.testing.assert_allclose(made.gram[at, at], square, rtol=1e-4)


def test_a_sketch_is_near_the_exact_gram(sums):
  c, folder = sums
  exact, _ = measured(c, folder, 'outcome', sketch=0)
  near, _ = measured(c, folder, 'outcome', sketch=4096)
  scale = np.sqrt(np.outer(np.diag(exact.gram), np.diag(exact.gram)))
  error = (near.gram - exact.gram) / scale
  assert np.abs(error).max() < 5 * np.sqrt(2 / 4096)


def test_what_carries_no_signal_and_what_points_backwards(sums):
  c, folder = sums
  # The share of completions with an even number of tokens varies even here.
  text = (
    'contains(text=a),inverse(reward=contains(text=a)),'
    'contains(text=a)|token_mean,constant(value=0.7)'
  )
  _, out = measured(c, folder, text)
  plain, backwards, by_tokens, none = out.values()
  assert plain['second'] > 0
  np.testing.assert_allclose(backwards['second'], plain['second'])
  np.testing.assert_allclose(backwards['total'], plain['total'], rtol=1e-5)
  np.testing.assert_allclose(by_tokens['omega'], plain['omega'], rtol=1e-5)
  assert none['second'] == 0
  assert none['noise_scale'] == np.inf
  assert none['root'] == 0


def test_other_tasks_and_imitation(sums):
  c, folder = sums
  text = (
    'outcome|baseline(value={best}),outcome on arithmetic(max_value=3),'
    'sft on chain(depth=1)'
  )
  made, out = measured(c, folder, text)
  assert set(made.sources) == {
    ('', False),
    ('arithmetic(max_value=3)', False),
    ('chain(depth=1)', True),
  }
  imitation = out['sft on chain(depth=1)']
  assert imitation['second'] > 0
  assert np.isnan(imitation['omega'])
  assert imitation['tokens'] > 3


def test_interrupted_vectors_go_on(sums, monkeypatch, tmp_path):
  c, folder = sums
  rows = vectors.Rows(
    np.arange(40, dtype=np.int32).reshape(8, 5) % 30 + 1,
    np.ones((8, 1, 5), np.float32),
  )
  made, _ = measured(c, folder, 'outcome')
  store = vectors.store_of(tmp_path, 1, rows, {'of': 'this'})
  options = dict(temperature=1.0, trainable='.*', size=64)
  monkeypatch.setattr(vectors, 'SAVE_EVERY_S', 0.0)
  monkeypatch.setattr(vectors, 'MOST_ROWS', 2)
  with sharding.use(made.mesh):
    whole = vectors.score_vectors(made.policy, rows, **options)

    def stop(done):
      if done == 4:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
      vectors.score_vectors(
        made.policy, rows, store=store, progress=stop, **options
      )
    began = []
    again = vectors.score_vectors(
      made.policy, rows, store=store, progress=began.append, **options
    )
  assert began == [4, 6, 8]
  np.testing.assert_array_equal(again, whole)
  other = vectors.store_of(tmp_path, 1, rows, {'of': 'that'})
  assert other.path != store.path


def test_credit_by_turn_in_dialogues(games):
  c, folder = games
  critic = 'run|gae(gamma=1.0, lam=0.95)'
  text = (
    f'outcome,run|stepwise(gamma=1.0)|rloo,{critic},'
    'run|delta_belief(weight=0.1)|grpo,constant(value=1.0)'
  )
  with pytest.raises(ValueError, match=r'dialogue\.belief=current'):
    measured(c, folder, text)
  c = config.of_run(folder, ['dialogue.belief=current'])
  made, out = measured(c, folder, text)
  source = made.sources['', False]
  assert source.ids.shape == (4, 8, 3)
  assert out[critic]['second'] > 0
  assert made.weighted[critic].shape == (4, 8, 1)
  assert out['run|delta_belief(weight=0.1)|grpo']['second'] > 0
  # Given once a dialogue, it does not pay for turns.
  assert out['constant(value=1.0)']['second'] == 0


def test_a_critic_that_the_run_does_not_have(sums):
  c, folder = sums
  with pytest.raises(ValueError, match=r"algo\.estimate is 'grpo'"):
    measured(c, folder, 'outcome|gae(gamma=1.0, lam=0.9)')


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'prompts': 2}, '--prompts=2 must be at least 3'),
    ({'samples': 7}, '--samples=7 must be at least 8'),
    ({'candidates': 3}, '--candidates=3'),
    ({'between': (0.5, 0.2)}, '--pass_rate'),
    ({'split': 'tests'}, '--split'),
    ({'between': (1.0, 1.0)}, 'widen --pass_rate'),
  ],
)
def test_settings_that_cannot_work(sums, changes, match):
  c, folder = sums
  with pytest.raises(ValueError, match=match):
    measured(c, folder, 'outcome', **changes)


def test_the_runs_config_stays_as_it_is(sums):
  c, folder = sums
  before = config.to_json(c)
  measured(c, folder, 'outcome|grpo,sft on chain(depth=1)')
  assert config.to_json(c) == before


def test_a_teacher_gives_each_group_a_vector(sums):
  c, folder = sums
  told = 'context=feedback, template=plain'
  text = (
    f'distill({told}),distill({told}, use=add(weight=0.5))|rloo,'
    'distill(weights=initial),outcome'
  )
  made, out = measured(c, folder, text, sketch=0)
  read, added, same, none = out.values()
  assert (read['taught_frac'], read['group']) == (1.0, 2)
  assert none['second'] == 0  # nothing is right, so the term that is added
  # is half of the loss alone, where both have all tokens.
  np.testing.assert_allclose(added['second'], read['second'] / 4, rtol=1e-4)
  assert same['second'] == 0  # the step had no reward: weights are the initial
  # The vector of one group: minus the gradient of KL(policy || teacher).
  source = made.sources['', False]
  names = [t.id for t in source.collected.tasks]
  members = advantages.members(names, 8, 2, SETTINGS.seed, 0)[1, 1, 0]
  rollout = jax.tree.map(lambda x: np.asarray(x)[1], source.collected.rollout)
  logits = functools.partial(transformer.logits, model=made.policy.model)

  def kl(params):
    total = 0.0
    for i in members:
      said = source.collected.transcripts[1][i].feedback
      question = f'{source.collected.tasks[1].question}\n\n{said}'
      prompt = made.policy.tokenizer.encode_chat(question)
      row = rollout.tokens[i, : rollout.length[i]]
      start = (rollout.turn[i] >= 0).argmax()
      longer = np.concatenate([prompt, row[start:]])[None]
      p = logits(params, row[None])[0, start - 1 : -1]
      q = logits(made.policy.params, longer)[0, len(prompt) - 1 : -1]
      p, q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
      total += (jnp.exp(p) * (p - q)).sum()
    return total / len(members)

  with sharding.use(made.mesh), nn.logical_axis_rules(()):
    grads = jax.jit(jax.grad(kl))(made.policy.params)
  square = sum(float((g**2).sum()) for g in jax.tree.leaves(grads))
  ids, _ = made.taught[f'distill({told})']
  at = ids[1, 2, 0]  # the first group of the second half
  np.testing.assert_allclose(made.gram[at, at], square, rtol=1e-3)


@pytest.mark.parametrize(
  ('text', 'match'),
  [
    ('distill', 'loss and gradient are 0'),
    ('distill(contexts=gold)', 'no option contexts: .*context, divergence'),
    ('distill(weights=ema, context=gold)', 'moving average'),
    ('distill(context=gold, use=lose)', "distill.*'lose'"),
    ('distill(context=gold)|boxed', 'no estimator, aggregate or credit'),
  ],
)
def test_a_teacher_that_cannot_judge(sums, text, match):
  c, folder = sums
  with pytest.raises(ValueError, match=match):
    measured(c, folder, text)


def test_a_teacher_judges_single_answers(games):
  c, folder = games
  with pytest.raises(ValueError, match='single answers'):
    measured(c, folder, 'distill(context=gold)')

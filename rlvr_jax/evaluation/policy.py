"""A checkpoint of a run as something that can be asked."""

import functools
import hashlib
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rlvr_jax
from rlvr_jax import checks, config, digests, resume, source, types
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import evaluate, sample_store
from rlvr_jax.io import checkpoint
from rlvr_jax.io import load as io
from rlvr_jax.models import sampler, sharding, token_logprobs, transformer
from rlvr_jax.rollouts import (
  episode,
  episode_scores,
  judge,
  single_turn,
  task_stream,
)
from rlvr_jax.stats import coverage
from rlvr_jax.verifiers import dispatch
from rlvr_jax.verifiers.extraction import extract


class Policy(NamedTuple):
  model: transformer.Decoder
  drawing: Any  # parameters in the sampler's layout
  params: Any  # in the training layout, for scoring; None if not asked for
  tokenizer: Any
  step: int
  checksum: str  # of its checkpoint's manifest; '' before any step
  read: dict[str, str]  # `digests.of_model` of what it is made from

  def encode(self, c, task) -> list[int]:
    return self.tokenizer.encode_chat(task.question, c.system_prompt)


def load(c, workdir, step: int | None, mesh, *, scoring=False) -> Policy:
  """The checkpoint of `step` (None: the newest; 0: the start of the run).

  With `scoring` it can also be asked for `perplexities`.

  Raises:
    ValueError: no checkpoint, or none of that step (lists those there are).
  """
  model_config = io.load_config(c.model.name)
  checks.check_model(c, model_config)
  model = transformer.Decoder(
    model_config,
    dtype=jnp.dtype(c.model.dtype),
    param_dtype=jnp.dtype(c.model.param_dtype),
  )
  shapes, shardings = sharding.params_shardings(model, mesh)
  abstract = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes,
    shardings,
  )
  found = checkpoint.steps(workdir)
  if step != 0 and (not found or step not in (None, *found)):
    asked = 'no checkpoint' if step is None else f'no checkpoint of step {step}'
    raise ValueError(
      f'{workdir} has {asked}. There are: '
      f'{", ".join(map(str, found)) or "none"}. Take one of these, or step 0 '
      'for the model it started from.'
    )
  place = sharding.placer(abstract) if step == 0 else lambda path, x: None
  loaded = io.load(c.model.name, dtype=c.model.param_dtype, place=place)
  if step == 0:
    params, checksum = loaded.params, ''
    if params is None:
      params = sharding.init_params(model, jax.random.key(c.seed), mesh)
  else:
    tree, _, step = checkpoint.load(
      workdir, {'params': abstract}, step=step, partial=True
    )
    params, checksum = tree['params'], _checksum(workdir, step)
  drawing = sharding.to_sampler(model, mesh)(params)
  kept = params if scoring else None
  # After step 0 the checkpoint has the weights.
  weights = '' if step else loaded.weights
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  read = digests.of_model('model.name', weights, tokenizer)
  return Policy(model, drawing, kept, tokenizer, step, checksum, read)


def _checksum(workdir, step):
  found = pathlib.Path(workdir) / 'checkpoints' / str(step) / 'manifest.json'
  return hashlib.sha256(found.read_bytes()).hexdigest()[:16]


def drawer(params, c, *, model, mesh, how: sampler.Sampling):
  """(prompt, length, task, round) -> Sampled.

  Args:
    params: in the sampler's layout.
  """
  put = lambda x: sharding.from_host(x, sharding.rows(mesh))

  def draw(prompt, length, task, round_):
    key = evaluate.keys(c.seed, task, round_)
    return sampler.sample(
      params, put(prompt), put(length), key, model=model, how=how
    )

  return draw


def evaluator(c, tasks, *, model, mesh, how, encode, tokenizer, answer):
  """params -> the `sample` of `evaluate.run` for these tasks.

  Args:
    how: `sampler.Sampling`.
    answer: who replies in a dialogue, from `judge.oracle`.
  """
  put = lambda x: sharding.from_host(x, sharding.rows(mesh))
  limits = judge.limits(c, evaluating=True)

  def surprisal(logp):
    return float(-np.asarray(logp, np.float64).sum())

  def questions(params):
    draw = drawer(params, c, model=model, mesh=mesh, how=how)

    def sample(prompt, length, task, round_):
      drawn = draw(prompt, length, task, round_)

      def read(count):
        mine = sampler.Sampled(*(x[:count] for x in sharding.to_host(drawn)))
        rows = [tasks[i] for i in task[:count]]
        _, said = single_turn.transcribe(
          rows,
          mine,
          tokenizer,
          c.verify_timeout_s,
          extract.rules_of(c.verifier),
        )
        return list(zip(said, map(surprisal, mine.logp), strict=True))

      return read

    return sample

  def dialogues(params):
    def sample(prompt, length, task, round_):
      del prompt, length
      speaker = episode.policy(
        params,
        model=model,
        how=how._replace(shrink=False),
        put=put,
        key=evaluate.keys(c.seed, task, round_),
        group=1,
        limits=limits,
      )
      played, _, _ = episode.play(
        [tasks[i] for i in task],
        speaker,
        encode=encode,
        tokenizer=tokenizer,
        group=1,
        max_prompt_length=c.max_prompt_length,
        limits=limits,
        oracle=answer,
      )
      return lambda count: [
        (episode_scores.transcript(g), surprisal(g.logp))
        for g in played[:count]
      ]

    return sample

  return dialogues if dialogue.is_dialogue(tasks[0]) else questions


def tasks_of(c) -> list:
  """The first eval.num_tasks tasks of the split to evaluate on."""
  return checks.eval_tasks(c, checks.environment(c))


def settings(c, policy: Policy, tasks, oracle: source.Teacher) -> dict:
  """All that samples and their verdicts depend on, but their number."""
  free = (*resume.MAY_CHANGE, 'eval.samples')
  read = {
    f'checkpoint of step {policy.step}': policy.checksum,
    'env: tasks to evaluate on': digests.of_tasks(tasks),
    'verifier: version': str(dispatch.VERSION),
  }
  read |= policy.read | source.content_of(oracle, 'dialogue.oracle')
  return {
    'version': rlvr_jax.__version__,
    'step': policy.step,
    'content': read,
    'config': {k: v for k, v in config.flatten(c).items() if k not in free},
  }


def evaluated(c, policy: Policy, tasks, workdir, mesh, say):
  """`sample_store.Table` of eval.samples samples of each task.

  Kept in a file of `workdir`, from which an evaluation that was stopped goes
  on. Call it inside `sharding.use(mesh)`.

  Args:
    say: prints a line; told how far it is, now and then.

  Raises:
    ValueError: a prompt beyond the limit, or a file that is in use.
  """
  encode = lambda task: policy.encode(c, task)
  task_stream.check_prompts(tasks, encode, c.max_prompt_length)
  how = evaluate.sampling(c, policy.tokenizer.end_ids, shrink=mesh.size == 1)
  oracle, size = source.open_oracle(c, mesh), evaluate.batch_size(c, mesh)
  depends = settings(c, policy, tasks, oracle)
  path = sample_store.path_of(workdir, policy.step, depends)
  total = len(tasks) * c.eval.samples
  say(f'step {policy.step}: {len(tasks)} tasks x {c.eval.samples} samples')
  for stale, why in sample_store.stale(workdir, policy.step, depends):
    say(f'{stale} is not used, since these differ: {"; ".join(why)}')
  with sample_store.open(
    path, depends, [t.id for t in tasks], c.eval.samples, size
  ) as store:
    if store.done:
      say(f'{store.done} of {total} samples are in {path}')
    sample = evaluator(
      c,
      tasks,
      model=policy.model,
      mesh=mesh,
      how=how,
      encode=encode,
      tokenizer=policy.tokenizer,
      answer=judge.oracle(
        c,
        oracle.judge,
        lambda x: sharding.from_host(x, sharding.rows(mesh)),
      ),
    )
    return evaluate.run(
      tasks,
      sample(policy.drawing),
      encode=encode,
      store=store,
      batch_size=size,
      max_prompt_length=c.max_prompt_length,
      progress=evaluate.countdown(total, say),
    )


class Responses(NamedTuple):
  """N responses to each of M tasks, M*N rows, those of a round adjacent."""

  tokens: np.ndarray  # i32[B,T], prompt and response
  mask: np.ndarray  # bool[B,T], the response
  tasks: int


def responses(c, policy: Policy, tasks, rounds: int, mesh) -> Responses:
  """The first `rounds` samples of `evaluated` of some of its first tasks."""
  encode = lambda task: policy.encode(c, task)
  prompt, length = single_turn.encode_prompts(
    tasks, encode, c.max_prompt_length
  )
  how = evaluate.sampling(c, policy.tokenizer.end_ids, shrink=mesh.size == 1)
  draw = drawer(policy.drawing, c, model=policy.model, mesh=mesh, how=how)
  size, parts = evaluate.batch_size(c, mesh), []
  items = [sample_store.item(j, len(tasks)) for j in range(len(tasks) * rounds)]
  for some in evaluate.batches(items, size):
    which, round_ = np.array(some, np.int32).T
    drawn = sharding.to_host(draw(prompt[which], length[which], which, round_))
    parts.append(single_turn.to_rollout(prompt[which], length[which], drawn, 1))
  whole: types.Rollout = jax.tree.map(
    lambda *x: np.concatenate(x)[: len(items), 0], *parts
  )
  return Responses(whole.tokens, whole.turn >= 0, len(tasks))


def perplexities(c, policy: Policy, said: Responses, mesh) -> np.ndarray:
  """f64[B]: exp(-mean log p) of each response at temperature 1, forced."""
  put = lambda x: sharding.from_host(x, sharding.rows(mesh))
  score = functools.partial(_logp, model=policy.model, chunk=c.logits_chunk)
  # A forward pass keeps more for a row than decoding does.
  size = sharding.batch_shards(mesh) * 4
  rows = [
    sharding.to_host(score(policy.params, put(said.tokens[np.array(some)])))
    for some in evaluate.batches(range(len(said.tokens)), size)
  ]
  logp = np.concatenate(rows)[: len(said.tokens)]
  return coverage.perplexity(logp, said.mask)


@functools.partial(jax.jit, static_argnames=('model', 'chunk'))
def _logp(params, tokens, *, model, chunk):
  return token_logprobs.token_logprobs(
    params, tokens, model=model, chunk=chunk
  )[0]

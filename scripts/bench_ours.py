"""Our side of the benchmark; bench_peers/common.py defines what a side does.

It times the programs that training compiles: the sampler, the update, and the
resharding between them. On an accelerator give --dtype=bfloat16.
"""

import importlib.metadata
import pathlib
import sys
import time

import jax
import numpy as np
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parent / 'bench_peers'))

import common

from rlvr_jax import algorithm, config, experiment, types
from rlvr_jax.io import load
from rlvr_jax.learner import train_step
from rlvr_jax.models import sampler, sharding, transformer
from rlvr_jax.rollouts import single_turn

MAX_PROMPT = 64
CONFIG = pathlib.Path(__file__).resolve().parents[1] / 'configs' / 'tiny.py'


def settings(args):
  """The work as a config of ours."""
  case = args.work.cases[0]
  return config.load(
    str(CONFIG),
    [
      f'model.name={args.model}',
      f'model.dtype={args.dtype}',
      'total_steps=1',
      f'train_batch_size={len(case.prompts)}',
      f'num_generations={case.samples}',
      f'max_prompt_length={MAX_PROMPT}',
      f'max_completion_length={case.max_new}',
      'groups_per_micro_batch=1',
      'logits_chunk=2048',
      'algo.estimate=grpo',
      'algo.surrogate=clip',
      'algo.aggregate=seq_mean_token_mean',
      f'optimizer.learning_rate={common.LEARNING_RATE}',
      'optimizer.schedule=constant',
      'optimizer.b2=0.999',
      'optimizer.max_grad_norm=0',
    ],
  )


class Side:
  """The model and its programs."""

  def __init__(self, args):
    self.mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    x = experiment.Experiment(settings(args), self.mesh)
    self.algorithm, self.programs = x.algorithm, x.programs
    self.model, self.to_sampler = x.programs.model, x.programs.to_sampler
    loaded = load.load(str(args.model), dtype='float32')
    self.params = sharding.put_params(loaded.params, self.model, self.mesh)
    self.tokenizer = tokenizers.Tokenizer.from_file(
      str(args.model / 'tokenizer.json')
    )

  def encode(self, text):
    return self.tokenizer.encode(text, add_special_tokens=False).ids

  def ids(self, prompts):
    return single_turn.encode_prompts(prompts, self.encode, MAX_PROMPT)

  def sample(self, params, prompts, key, case, end, temperature=1.0):
    """Sampled host arrays and texts."""
    prompt, length = self.ids(prompts)
    out = sampler.sample(
      params,
      prompt,
      length,
      key,
      model=self.model,
      sampling=sampler.Sampling(
        case.max_new, (end,), temperature, compact_batch=True
      ),
      group=case.samples,
    )
    out = jax.tree.map(np.asarray, out)
    rows = zip(out.tokens, out.length, strict=True)
    texts = self.tokenizer.decode_batch([r[:n].tolist() for r, n in rows])
    return prompt, length, out, texts


def proof(args, side, params):
  tokens = np.array([side.encode(common.CHECK_PROMPT)])
  logits = transformer.logits(side.params, tokens, model=side.model)[0]
  check = common.Case(
    'check', (common.CHECK_QUESTION,), (), 1, common.CHECK_NEW
  )
  end = side.tokenizer.token_to_id(common.END)
  key = jax.random.key(0)
  texts = side.sample(params, check.prompts, key, check, end, 0.0)[-1]
  return common.prove(args, logits, texts[0])


def sample_only(args, record, side, end):
  params = side.to_sampler(side.params)
  for i, case in enumerate(common.turns(args)):
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(args.seed), i)
    out = side.sample(params, case.prompts, key, case, end)[2]
    record(
      case,
      lengths=out.length.tolist(),
      rollout_s=time.perf_counter() - start,
    )


def train(args, record, side, end):
  (case,) = args.work.cases
  state = train_step.new_state(
    side.params,
    tx=side.programs.tx,
    trainable='.*',
    abstract=side.programs.abstract,
  )
  side.params = None  # donated
  rows = sharding.rows(side.mesh)
  for i in range(len(common.turns(args))):
    start = time.perf_counter()
    params = side.to_sampler(state.params)
    key = jax.random.fold_in(jax.random.key(args.seed), i)
    prompt, length, out, texts = side.sample(
      params, case.prompts, key, case, end
    )
    del params
    middle = time.perf_counter()
    reward = np.array([common.digit_share(t) for t in texts], np.float32)
    shape = (len(case.prompts), case.samples)
    rollout = single_turn.to_rollout(prompt, length, out, case.samples)
    score = types.Score(
      reward=reward.reshape(*shape, 1),
      turns=np.ones((*shape, 1), bool),
      belief=None,
      verdict=np.zeros(shape, np.int32),
    )
    adv = np.asarray(algorithm.advantages(side.algorithm, rollout, score))
    batch = sharding.from_host(types.flatten(rollout, adv), rows)
    state, metrics = side.programs.update(state, (batch,))
    jax.block_until_ready(state)
    gap = float(metrics['sampler_trainer/logp_diff_max'])
    if args.dtype == 'float32' and not gap < 1e-3:
      common.refuse(f'sampler and trainer differ by {gap:.3g} nats.')
    record(
      case,
      lengths=out.length.tolist(),
      rollout_s=middle - start,
      train_s=time.perf_counter() - middle,
      reward=float(reward.mean()),
    )


def main():
  args = common.parse(dtype=True)
  side = Side(args)
  end = side.tokenizer.token_to_id(args.work.stop)
  common.check_prompts(args, side.encode)
  with sharding.use(side.mesh):
    record = common.recorder(
      args,
      proof(args, side, side.to_sampler(side.params)),
      versions={n: importlib.metadata.version(n) for n in ('rlvr_jax', 'jax')},
      backend=jax.devices()[0].device_kind,
    )
    (train if args.work.train else sample_only)(args, record, side, end)


if __name__ == '__main__':
  main()

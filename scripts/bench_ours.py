"""Our side of the benchmark; bench_peers/common.py defines what a side does.

It times the programs of training: the sampler, `train_step.update`, and the
resharding between them. On an accelerator give --dtype=bfloat16.
"""

import functools
import importlib.metadata
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parent / 'bench_peers'))

import common

from rlvr_jax import algorithm, registry, types
from rlvr_jax.io import load
from rlvr_jax.learner import optimizer, train_step
from rlvr_jax.models import micro_batch, sampler, sharding, transformer
from rlvr_jax.rollouts import single_turn

MAX_PROMPT = 64


class Side:
  """The model and its programs."""

  def __init__(self, args):
    self.mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    self.dtype = jnp.dtype(args.dtype)
    loaded = load.load(str(args.model), dtype='float32')
    self.model = transformer.Decoder(loaded.config, dtype=self.dtype)
    self.params = sharding.put_params(loaded.params, self.model, self.mesh)
    self.tokenizer = tokenizers.Tokenizer.from_file(
      str(args.model / 'tokenizer.json')
    )
    self.to_sampler = sharding.to_sampler(self.model, self.mesh)

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
  algo = algorithm.Algorithm(
    credit=registry.get('credit', 'outcome'),
    estimate=registry.get('estimator', 'grpo'),
    surrogate=registry.get('surrogate', 'clip'),
    aggregate=registry.get('aggregate', 'seq_mean_token_mean'),
    kl=None,
    kl_weight=0.0,
  )
  rate = common.LEARNING_RATE
  tx = optimizer.make_optimizer(Adam(rate), total_updates=1)
  abstract = train_step.abstract_state(side.model, tx, '.*', side.mesh)
  state = train_step.new_state(
    side.params, tx=tx, trainable='.*', abstract=abstract
  )
  side.params = None  # donated
  update = jax.jit(
    functools.partial(
      train_step.update,
      algorithm=algo,
      model=side.model,
      tx=tx,
      schedule=lambda _: rate,
      temperature=1.0,
      trainable='.*',
      shapes=(micro_batch.Shapes(case.samples, MAX_PROMPT, 1, 2048, True),),
    ),
    donate_argnums=0,
    out_shardings=(train_step.shardings_of(abstract), None),
  )
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
    adv = np.asarray(algorithm.advantages(algo, rollout, score))
    batch = sharding.from_host(types.flatten(rollout, adv, False), rows)
    state, metrics = update(state, (batch,))
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


class Adam:
  """The optimiser's settings, in the names of the config."""

  schedule, warmup_steps = 'constant', 0
  b1, b2, eps = 0.9, 0.999, 1e-8
  weight_decay = max_grad_norm = value_learning_rate = 0.0

  def __init__(self, learning_rate):
    self.learning_rate = learning_rate


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

"""Tunix's side of the benchmark; see common.py for what a side must do.

Runs in .bench/tunix. Undocumented requirements of Tunix 0.1.7:

- its Llama ignores `rope_theta` (`apply_rope` uses its default of 1e6): bound
  here, otherwise logits are silently wrong;
- a batch's prompts must be one NumPy array of strings;
- masks come from comparing tokens with the pad token, so that must be a
  token that is never sampled;
- the rollout's seed is fixed unless it is set at each step: equal prompts would
  give equal samples;
- 32 samples of 256 tokens in one update make XLA allocate over 30 GB, so W2
  trains on one group at a time (it samples all 32 at once, which is faster).
"""

import functools
import importlib.metadata
import json
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
from tunix.generate import sampler as sampler_lib
from tunix.models.llama3 import model as llama
from tunix.models.llama3 import params as llama_params
from tunix.rl import rl_cluster as cluster_lib
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

_MESH_AXES = ('fsdp', 'tp')


def load(folder):
  """(model, mesh) of the checkpoint folder, float32."""
  c = json.loads((folder / 'config.json').read_text())
  theta = c['rope_theta']
  llama.apply_rope = functools.partial(llama.apply_rope, rope_theta=theta)
  config = llama.ModelConfig(
    num_layers=c['num_hidden_layers'],
    vocab_size=c['vocab_size'],
    embed_dim=c['hidden_size'],
    hidden_dim=c['intermediate_size'],
    num_heads=c['num_attention_heads'],
    head_dim=c['hidden_size'] // c['num_attention_heads'],
    num_kv_heads=c['num_key_value_heads'],
    rope_theta=theta,
    norm_eps=c['rms_norm_eps'],
    weight_tying=c['tie_word_embeddings'],
  )
  mesh = jax.sharding.Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1), _MESH_AXES
  )
  with mesh:
    model = llama_params.create_model_from_safe_tensors(
      str(folder), config, mesh, jnp.float32
    )
  return model, mesh


def make_sampler(model, tokenizer, positions: int):
  c = model.config
  cache = sampler_lib.CacheConfig(
    cache_size=positions,
    num_layers=c.num_layers,
    num_kv_heads=c.num_kv_heads,
    head_dim=c.head_dim,
  )
  return sampler_lib.Sampler(model, tokenizer, cache)


def proof(args, model, tokenizer):
  ids = jnp.asarray(tokenizer(common.CHECK_PROMPT)['input_ids'])[None]
  n = ids.shape[1]
  causal = jnp.tril(jnp.ones((1, n, n), bool))
  logits, _ = jax.jit(lambda t: model(t, jnp.arange(n)[None], None, causal))(
    ids
  )
  greedy = make_sampler(model, tokenizer, 128)(
    [common.CHECK_QUESTION],
    max_generation_steps=common.CHECK_NEW,
    eos_tokens=[tokenizer.convert_tokens_to_ids(common.END)],
  )
  return common.prove(args, logits[0], greedy.text[0])


def sampled(tokens, case):
  """Tokens of each row; Tunix cuts the stop token off, we count it."""
  return [min(len(t) + 1, case.max_new) for t in tokens]


def sample_only(args, record, model, tokenizer, stop):
  samplers = {
    case.name: make_sampler(
      model, tokenizer, max(case.prompt_tokens) + case.max_new
    )
    for case in args.work.cases
  }
  for step, case in enumerate(common.turns(args)):
    start = time.perf_counter()
    out = samplers[case.name](
      [p for p in case.prompts for _ in range(case.samples)],
      max_generation_steps=case.max_new,
      max_prompt_length=max(case.prompt_tokens),
      temperature=1.0,
      top_p=1.0,
      eos_tokens=[stop],
      seed=args.seed + step,
    )
    record(
      case,
      lengths=sampled(out.tokens, case),
      rollout_s=time.perf_counter() - start,
    )


def train(args, record, model, mesh, tokenizer, stop):
  (case,) = args.work.cases
  prompts = len(case.prompts)
  micro = 1 if args.name == 'W2' else prompts
  steps = len(common.turns(args))
  cluster = cluster_lib.RLCluster(
    actor=model,
    tokenizer=tokenizer,
    cluster_config=cluster_lib.ClusterConfig(
      role_to_mesh={
        cluster_lib.Role.ACTOR: mesh,
        cluster_lib.Role.ROLLOUT: mesh,
      },
      training_config=cluster_lib.RLTrainingConfig(
        actor_optimizer=optax.adamw(common.LEARNING_RATE, weight_decay=0.0),
        eval_every_n_steps=steps + 1,
        max_steps=steps,
        mini_batch_size=prompts,
        train_micro_batch_size=micro,
        rollout_micro_batch_size=prompts,
        compute_logps_micro_batch_size=prompts,
      ),
      rollout_config=base_rollout.RolloutConfig(
        max_tokens_to_generate=case.max_new,
        max_prompt_length=max(case.prompt_tokens),
        kv_cache_size=max(case.prompt_tokens) + case.max_new,
        temperature=1.0,
        top_p=1.0,
        top_k=None,
        eos_tokens=[stop],
      ),
    ),
  )
  seen = {'step': 0, 'micro': 0}
  generate, update = cluster.generate, cluster.update_actor

  def timed_generate(*a, **kw):
    start = time.perf_counter()
    seed = args.seed + seen['step']
    cluster.cluster_config.rollout_config.seed = jax.random.PRNGKey(seed)
    out = generate(*a, **kw)
    seen['end'] = time.perf_counter()
    seen['rollout_s'] = seen['end'] - start
    seen['lengths'] = sampled(out.tokens, case)
    return out

  def timed_update(*a, **kw):
    update(*a, **kw)  # waits for the loss, so for the step
    seen['micro'] += 1
    if seen['micro'] * micro < prompts:
      return
    seen['micro'] = 0
    seen['step'] += 1
    record(
      case,
      lengths=seen['lengths'],
      rollout_s=seen['rollout_s'],
      train_s=time.perf_counter() - seen['end'],
      reward=seen['reward'],
    )

  def reward(prompts, completions, **_):
    del prompts
    values = [common.digit_share(c) for c in completions]
    seen['reward'] = float(np.mean(values))
    return values

  cluster.generate, cluster.update_actor = timed_generate, timed_update
  learner = grpo_learner.GRPOLearner(
    rl_cluster=cluster,
    algo_config=grpo_learner.GRPOConfig(
      num_generations=case.samples, num_iterations=1, beta=0.0, epsilon=0.2
    ),
    reward_fns=reward,
  )
  learner.train([{'prompts': np.array(case.prompts)} for _ in range(steps)])


def main():
  args = common.parse()
  # `end of text` is the work's stop token, so that Tunix's masks know it.
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(args.model / 'tokenizer.json'),
    bos_token='<|im_start|>',  # every prompt begins with it; none is added
    eos_token=args.work.stop,
    pad_token=common.PAD,
  )
  common.check_prompts(args, lambda text: tokenizer(text)['input_ids'])
  model, mesh = load(args.model)
  names = ('google-tunix', 'jax', 'flax', 'transformers')
  record = common.recorder(
    args,
    proof(args, model, tokenizer),
    versions={n: importlib.metadata.version(n) for n in names},
    backend=jax.default_backend(),
  )
  stop = tokenizer.convert_tokens_to_ids(args.work.stop)
  if args.work.train:
    train(args, record, model, mesh, tokenizer, stop)
  else:
    sample_only(args, record, model, tokenizer, stop)


if __name__ == '__main__':
  main()

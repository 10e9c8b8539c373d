"""A reward model of pairs, and PPO against it: sums of a tiny byte-level model.

python scripts/train.py --config=configs/reward_model.py --workdir=runs/rm
python scripts/train.py --config=configs/reward_model.py:ppo --workdir=runs/ppo

The first learns which of two answers to a sum is right (chosen: the answer,
rejected: that of another sum). The second starts from a policy that imitated a
few answers and is paid by the model's score alone, with a KL in the reward as
in InstructGPT; ARG `ppo` trains what it needs first: this file without ARG, in
runs/reward_model/base, and :start, in runs/reward_model/start. Accuracy comes
from the gold answers, which neither the score nor the gradient sees.

For your own pairs: --config.env="pairs(path='pairs.jsonl')".
"""

from configs import common
from rlvr_jax import registry

SUMS = registry.Spec(
  "arithmetic(max_value=2, terms=3, ops='+*', instruction='')"
)


def get_config(arg: str = ''):
  stage = common.parse_arg(arg, stage=('base', 'start', 'ppo'))['stage']
  here = common.path(__file__)
  c = common.base()
  c.model.name = 'tiny()'
  c.max_prompt_length = 56
  c.max_completion_length = 2  # a digit and the end token
  c.train_batch_size = 32
  c.groups_per_micro_batch = 16
  c.optimizer.learning_rate = 1e-3
  c.eval.num_tasks = 32
  c.log_every = 20
  if stage == 'base':
    c.method = 'reward_model'
    c.env = registry.spec('answer_pairs', env=SUMS)
    c.algo.reward_loss = 'bradley_terry(center=0.01)'
    c.num_generations = 2
    c.total_steps = 200
    c.eval_every = c.save_every = 50
    return c
  c.env = SUMS
  if stage == 'start':
    c.method = 'sft'
    c.num_generations = 1
    c.total_steps = 60
    c.eval_every = c.save_every = 30
    return c
  c.model.name = f'{here}:start'
  c.reward_funcs = (registry.spec('reward_model', here),)
  c.num_generations = 8
  c.algo.estimate = 'gae(gamma=0.98, lam=0.95)'
  c.algo.reward_kl = 'k1'
  c.algo.reward_beta = 0.05
  c.optimizer.value_learning_rate = 1e-2
  c.total_steps = 100
  c.eval_every = c.save_every = 25
  return c

r"""Do levers that the signal map suggests make outcome reward learn faster?

  python scripts/sweep.py \
    --config=configs/studies/signal_levers/signal_levers.py \
    --workdir=runs/signal_levers
  python scripts/study.py runs/signal_levers --control=arm=uniform \
    --metrics=eval/accuracy --over=accuracy,frac_reward_zero_std

ARG `arm`, all from one base model of base_models/substrate.py, on 256 tasks, at
256 rollouts a step or less:

  uniform   Dr. GRPO, tasks in turn
  resample  16 groups, and 16 more in place of those without spread (DAPO)
  third     the constant baseline 1/3, near the best one of these models
  surprise  the best constant baseline of each batch, by the surprise of rows
  signal    tasks sampled by p(1 - p) of their posterior, to the 4th power
  signal_1  the same, to the first power
  half      tasks sampled by how likely their pass rate is 1/2

`base` is hard (scratchpads in 12% of samples) or rare (3%).
"""

from configs import common
from configs.base_models import substrate

ARMS = {
  'uniform': {},
  'resample': {
    'train_batch_size': 16,
    'max_resample_batches': 1,
  },
  'third': {'algo.estimate': 'baseline(value=0.3333)'},
  'surprise': {'algo.estimate': 'surprise_baseline'},
  'signal': {'task_sampling': 'signal'},
  'signal_1': {'task_sampling': 'signal(power=1.0)'},
  'half': {'task_sampling': 'pass_rate(target=0.5)'},
}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, base=('hard', 'rare'), arm=tuple(ARMS))
  c = substrate.tiny(arg['base'])
  c.train_tasks = 256
  c.algo.estimate = 'dr_grpo'
  c.algo.aggregate = 'seq_mean_token_sum'
  c.train_batch_size = 32
  c.num_generations = 8
  c.groups_per_micro_batch = 8
  c.eval.samples = 16
  c.total_steps = 40
  c.eval_every = 10
  c.save_every = 40
  c.update_from_flattened_dict(ARMS[arg['arm']])
  return c


def sweep(add):
  for seed in range(5):
    for arm in ARMS:
      add(arg=f'arm={arm}', seed=seed)

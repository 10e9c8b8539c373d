"""SmolLM2-135M-Instruct learns sums up to 20 + 20 by GRPO.

  bash scripts/quickstart.sh

About five minutes of training on two CPU cores. ARG `ci` is the same run,
cut to a few steps.
"""

from configs import common


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=('full', 'ci'))
  c = common.base()
  c.total_steps = 16
  c.env = "arithmetic(max_value=20, ops='+', test_size=128)"
  c.train_batch_size = 8
  c.num_generations = 8
  c.max_prompt_length = 64
  c.max_completion_length = 24
  c.optimizer.learning_rate = 1e-5
  c.optimizer.warmup_steps = 2
  c.groups_per_micro_batch = 4
  c.eval_every = 8
  c.eval.num_tasks = 128
  c.eval.batch_size = 64
  c.save_every = 8
  if arg['scale'] == 'ci':
    c.total_steps = 3
    c.eval_every = 0
    c.eval.num_tasks = 16
    c.eval.batch_size = 16
    c.save_every = 2
  return c

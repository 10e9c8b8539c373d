"""A two-layer byte-level model learns sums from random weights.

python scripts/train.py --config=configs/tiny.py --workdir=runs/tiny
"""

from configs import common


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=('full', 'smoke'))
  c = common.base()
  c.model.name = 'tiny()'
  c.env = "arithmetic(max_value=2, terms=3, ops='+*', instruction='')"
  c.total_steps = 240
  c.train_batch_size = 16
  c.num_generations = 64
  c.max_prompt_length = 56
  c.max_completion_length = 1  # an answer is one digit, without an end token
  c.verifier.truncated = 'read'
  c.optimizer.learning_rate = 1e-3
  c.optimizer.schedule = 'linear'
  c.groups_per_micro_batch = 16
  c.log_every = 10
  c.eval_every = 60
  c.save_every = 60
  if arg['scale'] == 'smoke':
    c.total_steps = 3
    c.train_batch_size = 2
    c.num_generations = 4
    c.groups_per_micro_batch = 1
    c.eval.num_tasks = 4
    c.eval.batch_size = 4
  return c

"""A tiny base model that has seen chains of two operations, whole and by steps.

  python scripts/train.py --config=configs/chains.py --workdir=runs/chains/base

Where configs/srl.py:tiny starts from, which trains it first. It knows the form
of a solution and the one-digit facts, and has never gone on to a third step.
"""

from configs import common


def get_config():
  c = common.base()
  c.method = 'sft'
  c.env = (
    'steps(chain(depth=2, train_size=8000, test_size=64), terse=True, '
    'think=False, last=True, also_whole=True)'
  )
  c.model.name = 'tiny()'
  c.total_steps = 1500
  c.train_batch_size = c.groups_per_micro_batch = 64
  c.num_generations = 1
  c.max_completion_length = 40
  c.optimizer.learning_rate = 5e-3
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_steps = 50
  c.eval.num_tasks = 64
  c.eval.samples = 4
  c.eval.temperature = 1.0
  c.eval.batch_size = 256
  c.eval_every = 0
  c.log_every = 100
  c.save_every = 500
  return c

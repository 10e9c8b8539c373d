"""Tiny base models for configs/srl.py: what they know of chains is known.

  python scripts/train.py --config=configs/chains.py:NAME --workdir=DIR

NAME is

  form   the default: chains of four additions and subtractions, where the
         results of subtractions are drawn from 0 to 9. It knows the form of a
         solution, whole and by steps, and additions; of subtractions it knows
         the form alone, and guesses. Goes on from `two`, which it trains first.
  two    chains of two operations of + - *, all right

A subtraction is guessed right one time in ten, a chain of four of them one time
in 10,000: outcome reward finds nothing there.
"""

from configs import common


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, name=('form', 'two'))
  two = arg['name'] == 'two'
  chain = (
    'chain(depth=2, train_size=8000, test_size=64)'
    if two
    else "chain(depth=4, ops='+-', unknown='-', train_size=8000, test_size=64)"
  )
  c = common.base()
  c.method = 'sft'
  c.env = f'steps({chain}, terse=True, think=False, last=True, also_whole=True)'
  c.model.name = 'tiny()' if two else 'configs/chains.py:two'
  c.total_steps = 1500 if two else 800
  c.train_batch_size = c.groups_per_micro_batch = 64
  c.num_generations = 1
  c.max_completion_length = 40
  c.optimizer.learning_rate = 5e-3 if two else 3e-3
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_steps = 50
  c.eval.num_tasks = 64
  c.eval.samples = 4
  c.eval.temperature = 1.0
  c.eval.batch_size = 256
  c.eval_every = 0
  c.log_every = 100
  c.save_every = 400
  return c

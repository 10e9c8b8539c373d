r"""Tiny base models for studies/srl: what they know of chains is known.

  python scripts/train.py --config=configs/base_models/chains.py:NAME \
    --workdir=DIR

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
from rlvr_jax import registry

CHAINS = {
  'form': registry.Spec(
    "chain(depth=4, ops='+-', unknown='-', train_size=8000, test_size=64)"
  ),
  'two': registry.Spec('chain(depth=2, train_size=8000, test_size=64)'),
}


def get_config(arg: str = ''):
  name = common.parse_arg(arg, name=tuple(CHAINS))['name']
  c = common.base()
  c.method = 'sft'
  c.env = registry.spec(
    'steps', CHAINS[name], terse=True, think=False, last=True, also_whole=True
  )
  c.train_batch_size = c.groups_per_micro_batch = 64
  c.num_generations = 1
  c.max_completion_length = 40
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_steps = 50
  c.eval.num_tasks = 64
  c.eval.samples = 4
  c.eval.temperature = 1.0
  c.eval.batch_size = 256
  c.eval_every = 0
  c.log_every = 100
  c.save_every = 400
  if name == 'two':
    c.model.name = 'tiny()'
    c.total_steps = 1500
    c.optimizer.learning_rate = 5e-3
  else:
    c.model.name = f'{common.path(__file__)}:two'
    c.total_steps = 800
    c.optimizer.learning_rate = 3e-3
  return c

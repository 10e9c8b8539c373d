r"""How large must an adapter be to learn what all weights learn?

  python scripts/sweep.py --config=configs/studies/lora/lora.py \
    --workdir=runs/lora
  python scripts/study.py runs/lora --control=arm=full

Sums of single digits by a byte-level model, the task of configs/tiny.py: the
model of ARG `base` is trained on it from random weights and stops halfway; from
there the arms go on for equally many steps, with all weights or with adapters
of rank 1, 4 and 16 on all projections, alpha = 2 rank. `rate` multiplies the
learning rate of an adapter: 3 unless given, as adapters want more than all
weights do. See README.md.
"""

from configs import common, tiny

ARMS = ('full', 'rank1', 'rank4', 'rank16')
SEEDS = 3


def get_config(arg: str = ''):
  known = dict(scale=('full_size', 'smoke'), arm=ARMS, base=False, rate=3.0)
  arg = common.parse_arg(arg, **known)
  c = tiny.get_config('smoke' if arg['scale'] == 'smoke' else 'full')
  c.optimizer.schedule = 'constant'
  if arg['scale'] != 'smoke':
    c.total_steps = 80 if arg['base'] else 60
    c.eval_every = 0 if arg['base'] else 15
    c.save_every = c.total_steps
  if arg['base']:
    return c
  if arg['scale'] != 'smoke':
    c.model.name = f'{common.path(__file__)}:base'
  if arg['arm'] != 'full':
    rank = int(arg['arm'].removeprefix('rank'))
    c.model.lora = f'lora(rank={rank}, alpha={2.0 * rank}, on=all)'
    c.optimizer.learning_rate *= arg['rate']
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(SEEDS):
      add(arg=f'arm={arm}', seed=seed)

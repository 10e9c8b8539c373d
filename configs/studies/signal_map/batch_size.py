r"""Does a larger batch learn faster where the map says that noise limits it?

  python scripts/sweep.py --config=configs/studies/signal_map/batch_size.py \
    --workdir=runs/batch_size
  python scripts/study.py runs/batch_size --metrics=eval/accuracy

ARG `start` is the step of signal_map.py's run share_12 that it goes on from:
ten further steps, of `batch` rollouts each. The optimiser starts anew.
"""

from configs import common
from configs.studies.signal_map import signal_map

STEPS = 10


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, start=0, batch=256, seed=0)
  c = signal_map.rl('share_12')
  run = f'base=share_12,seed={arg["seed"]}'
  if arg['start'] == 0:
    run = f'stage=base,{run}'
  elif arg['start'] != signal_map.STEPS:  # those of the map itself
    run = f'{run},steps={arg["start"]}'
  c.model.name = f'{common.path(signal_map.__file__)}:{run}'
  c.seed = 100 + arg['seed']  # other rollouts than those before `start`
  c.train_batch_size = arg['batch'] // signal_map.GROUP
  c.total_steps = STEPS
  c.eval_every = STEPS
  c.save_every = STEPS
  c.max_to_keep = 1
  return c


def sweep(add):
  for seed in range(3):
    for start in (0, 10, 40, signal_map.STEPS):
      for batch in (256, 2048):
        add(arg=f'start={start},batch={batch},seed={seed}')

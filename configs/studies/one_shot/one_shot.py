r"""How far does one training example carry?

  python scripts/sweep.py \
    --config=configs/studies/one_shot/one_shot.py:SCALE \
    --workdir=runs/one_shot
  python scripts/study.py runs/one_shot --metrics='eval/accuracy'

After Wang et al. (2025, arXiv:2504.20571): one problem, copied to fill the
batch, gives about the gain of 1,209, and test accuracy rises on after the
example is always solved. ARG `examples` is their number (0: all). SCALE is tiny
(the default: substrate `reliable`, a minute a run on two CPU cores), smollm2,
or qwen2.5_7b with the paper's hyperparameters: 128 copies x 8, learning rate
1e-6, clip 0.2, k3 with weight 1e-3, entropy bonus 1e-3, weight decay 0.01,
temperature 0.6; for v5e:8x8, see configs/studies/aot.md. Each copy is a group
of its own, as there. At tiny, with five seeds, one example brings 0.016 of the
0.179 that all bring, sixteen 0.164. See README.md.
"""

from configs import common
from configs.base_models import substrate


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), examples=1)
  c = SCALES[arg['scale']]()
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.algo.kl, c.algo.beta = 'k3', 1e-3
  c.algo.entropy_coef = 1e-3
  c.optimizer.weight_decay = 0.01
  c.optimizer.b2 = 0.999
  c.train_tasks = arg['examples']
  return c


def sweep(add):
  for examples in (1, 2, 16, 0):
    for seed in range(5):
      add(arg=f'examples={examples}', seed=seed)


def tiny():
  return substrate.tiny('reliable')


def qwen():
  c = common.qwen()
  c.total_steps = 2000
  c.train_batch_size = 128
  c.num_generations = 8
  c.temperature = 0.6
  c.eval.samples = 8
  return c


SCALES = {'tiny': tiny, 'smollm2': common.smollm2, 'qwen2.5_7b': qwen}

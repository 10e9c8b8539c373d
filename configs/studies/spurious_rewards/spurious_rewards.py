r"""Which rewards lift which base models?

  python scripts/sweep.py \
    --config=configs/studies/spurious_rewards/spurious_rewards.py:SCALE \
    --workdir=runs/spurious_rewards
  python scripts/study.py runs/spurious_rewards --metrics='eval/accuracy'

After Shao et al. (2025, arXiv:2506.10947): on one family of models rewards
with no relation to being right raise accuracy, since RLVR brings out a
strategy that is there already and clipping favours what is likely; on others
they do not. ARG `reward` is one of truth, random, format, inverse_format,
contains; `base` a model of base_models/substrate.py, where likely and reliable
strategies are known; `clip` and `updates` are the controls: without clipping,
or with one update a batch, a random reward has no bias. SCALE is tiny (the
default, a minute a run on two CPU cores), smollm2, or qwen2.5_7b with the
paper's hyperparameters: 64 prompts x 16, clip 0.2, no KL, learning rate 5e-7,
300 steps; its 8 updates of a batch are 8 passes here. majority and incorrect
need labels first: scripts/label.py. The 7B scale is for v5e:8x8, see
configs/studies/aot.md. At tiny, with five seeds, random reward lifts neither
base model: 0.748 -> 0.448 on `reliable`. See README.md.
"""

from configs import common
from configs.base_models import substrate

REWARDS = {
  'truth': 'outcome',
  'random': 'random(p=0.5)',
  'format': 'format(boxed)',
  'inverse_format': 'inverse(format(boxed))',
  'contains': 'contains(python)',
}
SURROGATES = {
  True: 'clip(low=0.2, high=0.2)',
  False: 'clip(low=1.0, high=1e9)',
}


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg,
    scale=tuple(SCALES),
    reward=tuple(REWARDS),
    base='reliable',
    clip=True,
    updates=8,
  )
  c = SCALES[arg['scale']](arg['base'])
  c.reward_funcs = (REWARDS[arg['reward']],)
  c.num_iterations = arg['updates']
  c.algo.surrogate = SURROGATES[arg['clip']]
  c.algo.aggregate = 'seq_mean_token_mean'
  return c


def sweep(add):
  arms = (
    'base=reliable,reward=truth',
    'base=reliable,reward=random',
    'base=reliable,reward=random,clip=false',
    'base=reliable,reward=random,updates=1',
    'base=unreliable,reward=truth',
    'base=unreliable,reward=random',
  )
  for arm in arms:
    for seed in range(5):
      add(arg=arm, seed=seed)


def tiny(base):
  c = substrate.tiny(base)
  c.total_steps = 20
  c.save_every = 20
  c.optimizer.learning_rate = 1e-3
  return c


def smollm2(base):
  del base  # its own
  return common.smollm2()


def qwen(base):
  del base
  c = common.qwen()
  c.total_steps = 300
  c.train_batch_size = 64
  c.num_generations = 16
  c.optimizer.learning_rate = 5e-7
  c.eval.samples = 8
  return c


SCALES = {'tiny': tiny, 'smollm2': smollm2, 'qwen2.5_7b': qwen}

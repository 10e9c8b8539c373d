r"""Which half of the samples teaches: right ones, wrong ones, both?

  python scripts/sweep.py \
    --config=configs/studies/negative_reinforcement/negative_reinforcement.py:SCALE \
    --workdir=runs/negative_reinforcement
  python scripts/study.py runs/negative_reinforcement --metrics='eval/pass@*'

After Zhu et al. (2025, arXiv:2506.01347), who report on MATH that training on
wrong samples alone (NSR) raises pass@1 and keeps pass@256 where the base model
has it, while training on right samples alone (PSR) loses it. ARG `arm` is one
of grpo, ppo, psr, nsr, w_reinforce; SCALE is tiny (the default, a minute a run
on two CPU cores; `base` names its model of base_models/substrate.py), smollm2,
or qwen2.5_7b with the paper's hyperparameters (1,024 prompts x 8, four updates
a batch are one pass here over the whole batch: num_iterations=1 is on-policy).
It is for v5p:4x4x4, see configs/studies/aot.md. At tiny, with five seeds, PSR
does not lose pass@64 where NSR keeps it. See README.md.

The clipped loss is the paper's, its mean is over each row's tokens; KL of
1e-3 for ppo and grpo at the paper's scale (there in ppo's reward, here in the
loss).
"""

from configs import common
from configs.base_models import substrate

ARMS = {
  'grpo': {'algo.estimate': 'grpo'},
  'ppo': {'algo.estimate': 'gae(gamma=1.0, lam=1.0)'},
  'psr': {'algo.estimate': 'psr'},
  'nsr': {'algo.estimate': 'nsr'},
  'w_reinforce': {'algo.estimate': 'weighted_reinforce(positive_weight=0.1)'},
}
# What the paper adds to these arms.
KL = {'algo.kl': 'k3', 'algo.beta': 1e-3}
PAPER_ARMS = {'grpo': KL, 'ppo': KL}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), arm=tuple(ARMS), base='rare')
  c = SCALES[arg['scale']](arg['base'])
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.algo.aggregate = 'seq_mean_token_mean'
  c.update_from_flattened_dict(ARMS[arg['arm']])
  if arg['scale'] == 'qwen2.5_7b':
    c.update_from_flattened_dict(PAPER_ARMS.get(arg['arm'], {}))
  return c


def sweep(add):
  for base in ('rare', 'hard'):
    for arm in ARMS:
      for seed in range(5):
        add(arg=f'base={base},arm={arm}', seed=seed)


def smollm2(base):
  del base  # its own
  return common.smollm2()


def qwen(base):
  del base
  c = common.qwen()
  c.total_steps = 140
  c.train_batch_size = 1024
  c.num_generations = 8
  c.algo.entropy_coef = 1e-4
  c.optimizer.value_learning_rate = 1e-5
  c.eval.samples = 256
  return c


SCALES = {'tiny': substrate.tiny, 'smollm2': smollm2, 'qwen2.5_7b': qwen}

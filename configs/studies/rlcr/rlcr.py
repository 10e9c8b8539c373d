r"""Does a score of the stated confidence calibrate, at equal accuracy?

  python scripts/sweep.py --config=configs/studies/rlcr/rlcr.py:SCALE \
    --workdir=runs/rlcr
  python scripts/study.py runs/rlcr --metrics='eval/accuracy,eval/ece'

After Damani et al. (2025, arXiv:2507.16806): reward c - (q - c)^2 for a right
answer c and a stated confidence q. ARG `score` is none (the answer alone
counts), brier, spherical, log_score or absolute (improper). SCALE is tiny (the
default: substrate `confident`, which states confidences at random, a minute
a run on two CPU cores), smollm2, or qwen2.5_7b with the hyperparameters of the
authors' code: 72 prompts x 32, temperature 0.7, no KL, no division by the
group's std, learning rate 5e-6, truncated rows masked; for v5p:2x4x4, see
configs/studies/aot.md. At tiny, with five seeds: the ECE goes from 0.343 to
0.433 without a score, to 0.280 with Brier's, at equal accuracy. See README.md.

A row without a readable confidence gets its score's worst value; the authors
give it nothing for the answer either: see rlvr_jax/rewards/calibrated.py.
"""

from configs import common
from configs.base_models import substrate

SCORES = ('brier', 'none', 'spherical', 'log_score', 'absolute')
PROMPT = (
  'Think, then give the final answer within \\boxed{}, and end with your '
  'confidence that it is right, a number from 0 to 1: '
  '<confidence>0.5</confidence>.'
)


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), score=SCORES)
  c = SCALES[arg['scale']]()
  c.algo.estimate = 'dr_grpo'
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.mask_truncated_completions = True
  if arg['score'] != 'none':
    c.reward_funcs = ('outcome', arg['score'])
    c.reward_weights = (1.0, 1.0)
  return c


def sweep(add):
  for score in SCORES:
    for seed in range(5):
      add(arg=f'score={score}', seed=seed)


def tiny():
  return substrate.tiny('confident')


def smollm2():
  c = common.smollm2()
  c.system_prompt = PROMPT
  c.max_prompt_length = 128
  c.max_completion_length = 64
  return c


def qwen():
  c = common.qwen()
  c.system_prompt = PROMPT
  c.total_steps = 200
  c.train_batch_size = 72
  c.num_generations = 32
  c.temperature = 0.7
  c.groups_per_micro_batch = 8
  c.optimizer.learning_rate = 5e-6
  c.optimizer.schedule = 'linear'
  c.optimizer.warmup_steps = 40
  c.eval.samples = 8
  return c


SCALES = {'tiny': tiny, 'smollm2': smollm2, 'qwen2.5_7b': qwen}

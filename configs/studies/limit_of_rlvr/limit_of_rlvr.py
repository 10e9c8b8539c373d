r"""Does RLVR solve what its base model could not, and does distillation?

  python scripts/sweep.py \
    --config=configs/studies/limit_of_rlvr/limit_of_rlvr.py:SCALE \
    --workdir=runs/limit_of_rlvr
  python scripts/study.py runs/limit_of_rlvr --metrics='eval/pass@*'

After Yue et al. (2025, arXiv:2504.13837): RLVR raises pass@1, the base model
catches up at large k, and a teacher's samples move the boundary. ARG `arm` is
rlvr (GRPO), sft (worked solutions), distill (a teacher's samples), rejection
(the policy's own correct samples). SCALE is tiny (the default: substrate
`rare`; the teacher is `scratchpad_only`; a minute a run on two CPU cores),
smollm2, or qwen2.5_7b with the paper's hyperparameters: 8 samples, no KL,
temperature 1, 256 prompts, learning rate 1e-6, 150 steps; for v5e:8x8, see
configs/studies/aot.md. At tiny, with five seeds, RLVR stays above `rare` at all
k, and SFT and distillation have the higher pass@1. See README.md.

The arms differ in what a step costs: rlvr and rejection draw 16 samples of 16
prompts, sft and distill see the same number of rows.
"""

from configs import common
from configs.base_models import substrate

ARMS = {
  'rlvr': {},
  'sft': {'method': 'sft'},
  'distill': {'method': 'distill'},
  'rejection': {'method': 'rejection'},
}
TEACHERS = {
  'tiny': 'configs/base_models/substrate.py:scratchpad_only',
  'smollm2': 'smollm2',
  'qwen2.5_7b': 'deepseek-ai/DeepSeek-R1-Distill-Qwen-7B',
}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), arm=tuple(ARMS))
  scale, arm = arg['scale'], arg['arm']
  c = SCALES[scale]()
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.update_from_flattened_dict(ARMS[arm])
  if arm == 'distill':
    c.teacher.name = TEACHERS[scale]
  if arm == 'sft':
    # As many rows as the others draw, in batches of as many.
    c.train_batch_size *= c.num_generations
    c.groups_per_micro_batch *= c.num_generations
    c.num_generations = 1
  if arm == 'sft' and scale == 'tiny':
    # Worked solutions that are right, unlike those the base model saw.
    c.env = substrate.tasks_of('scratchpad_only')[0]
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(5):
      add(arg=f'arm={arm}', seed=seed)


def tiny():
  return substrate.tiny('rare')


def qwen():
  c = common.qwen()
  c.total_steps = 150
  c.train_batch_size = 256
  c.num_generations = 8
  return c


SCALES = {'tiny': tiny, 'smollm2': common.smollm2, 'qwen2.5_7b': qwen}

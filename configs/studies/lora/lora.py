r"""How many numbers must be free? LoRA's rank against training all weights.

  python scripts/sweep.py --config=configs/studies/lora/lora.py \
    --workdir=runs/lora
  python scripts/study.py runs/lora --control=arm=full \
    --metrics=eval/accuracy --over=reward --out=configs/studies/lora/study

The quickstart (SmolLM2-135M-Instruct, sums up to 20 + 20, GRPO, 16 steps of
8 x 8) with all weights at its learning rate, and with adapters on all matrices
at ten times that, as is usual. ARG `arm` is full, rank_1, rank_4, rank_16,
rank_64; alpha is twice the rank, so that an adapter's scale is the same.
"""

from configs import common, quickstart

RANKS = (1, 4, 16, 64)
ARMS = ('full', *(f'rank_{r}' for r in RANKS))


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, arm=ARMS)
  c = quickstart.get_config()
  if arg['arm'] != 'full':
    rank = int(arg['arm'].removeprefix('rank_'))
    c.model.lora = f'lora(rank={rank}, alpha={2.0 * rank}, on=all)'
    c.optimizer.learning_rate *= 10
  c.save_every = c.total_steps
  return c


def sweep(add):
  for seed in range(3):
    for arm in ARMS:
      add(arg=f'arm={arm}', seed=seed)

r"""A whole ablation in one file: copy it, and change what you want to know.

  cp configs/forkme.py configs/mine.py
  python scripts/train.py --config=configs/mine.py:arm=near --show
  python scripts/train.py --config=configs/mine.py:arm=near --workdir=runs/near
  python scripts/sweep.py --config=configs/mine.py --workdir=runs/mine --jobs=2
  python scripts/study.py runs/mine --control=arm=outcome

The question: does a reward for near misses teach faster than right or wrong,
and does it matter by how much a member of a group is better? Task, reward and
estimator are this file's own. A run keeps the file as DIR/config.py, so that
evaluate.py, compare.py and a restart from DIR/config.json find them, whatever
becomes of the original.
"""

import functools

import jax.numpy as jnp

from configs import common, tiny
from rlvr_jax import registry, tasks
from rlvr_jax.rewards import base

# ARG arm=NAME -> the keys it changes. All keys: configs/common.py.
ARMS = {
  'outcome': {},
  'near': {'reward_funcs': ('near',)},
  'near_ranks': {'reward_funcs': ('near',), 'algo.estimate': 'ranks'},
}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=('full', 'smoke'), arm=tuple(ARMS))
  c = tiny.get_config(arg['scale'])  # a byte-level model, from random weights
  c.env = registry.spec('larger', digits=10)  # 'larger(digits=10)'
  c.total_steps = min(c.total_steps, 120)
  c.update_from_flattened_dict(ARMS[arg['arm']])
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(5):
      add(arg=f'arm={arm}', seed=seed)


@registry.register('env')
def larger(*, digits: int = 10, test_size: int = 20) -> tasks.Env:
  """'The larger of 3 and 7?', for all pairs, in an order of their own.

  Options are keyword-only, with a type. The model sees `question` alone;
  verifier 'math' compares its answer with `answer`.
  """
  pairs = digits**2

  def task(split, start, i):
    a, b = divmod(tasks.permute(start + i, pairs, 'larger'), digits)
    question = f'The larger of {a} and {b}?'
    return tasks.Task(f'{split}-{i}', question, str(max(a, b)), 'math', {})

  train = functools.partial(task, 'train', test_size)
  test = functools.partial(task, 'test', 0)
  return {
    'train': tasks.Lazy(pairs - test_size, train),
    'test': tasks.Lazy(test_size, test),
  }


@registry.register('reward')
def near(questions, transcripts, *, worst: float = 9.0):
  """1 for the right digit, less the farther it is, 0 for other text."""
  out = []
  for task, transcript in zip(questions, transcripts, strict=True):
    text, value = transcript.completion.strip(), 0.0
    if text.isascii() and text.isdigit():
      value = max(1 - abs(int(text) - int(task.answer)) / worst, 0.0)
    out.append(base.RewardResult(value, {'near': value}))  # value, parts to log
  return out


@registry.register('estimator')
def ranks(score, valid):
  """Of the other members, the share that is worse minus that which is better.

  One group's scores [G] to advantages [G]. Members that are not `valid` get 0
  and count for nobody; a group of equal scores gets 0 throughout.
  """
  other = score[None, :]
  worse = jnp.sum((other < score[:, None]) & valid[None, :], axis=1)
  better = jnp.sum((other > score[:, None]) & valid[None, :], axis=1)
  share = (worse - better) / jnp.maximum(valid.sum() - 1, 1)
  return jnp.where(valid, share, 0.0)

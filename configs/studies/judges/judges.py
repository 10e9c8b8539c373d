r"""Does outcome reward make a judge, and what does it learn from biased labels?

  python scripts/sweep.py --config=configs/studies/judges/judges.py:SCALE \
    --workdir=runs/judges
  python scripts/study.py runs/judges --control=arm=rl \
    --metrics='eval/accuracy,eval/judge/*'

A judge is shown two responses in a random order and names the better one; its
reward is +1 for the right verdict and -1 for a wrong or an unreadable one
(RM-R1, RRM, SPCT). ARG `arm`:

  rl      from a model that knows the form of a verdict (`start`)
  sft     imitates the bare verdict from there on
  first   as rl, but the better response is always shown first
  noise   as rl, with a fifth of the labels wrong
  kl      as rl, with the KL weight of SPCT, .08

Held-out pairs are judged in both orders: a judge that always names the first
response is right in one half of them. SCALE is tiny (the default: a byte-level
model compares two numbers), smollm2 (SmolLM2 compares two of up to two digits;
its `start` imitates verdicts of which one half is wrong, so that it knows the
form alone), or rm_r1, the hyperparameters of RM-R1 for a 7B model and your own
pairs.jsonl, for v5p:4x4x4.
"""

from configs import common
from rlvr_jax import registry

ARMS = ('rl', 'sft', 'first', 'noise', 'kl')


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg, scale=('tiny', 'smollm2', 'rm_r1'), arm=(*ARMS, 'start')
  )
  scale, arm = arg['scale'], arg['arm']
  c = {'tiny': tiny, 'smollm2': smollm2, 'rm_r1': rm_r1}[scale]()
  form = 'rm_r1' if scale == 'rm_r1' else 'letter'
  noise = 0.2 if arm == 'noise' else 0.0
  if (scale, arm) == ('smollm2', 'start'):
    noise = 0.5
  pairs = registry.Spec(
    registry.spec('pairs', path='pairs.jsonl')
    if scale == 'rm_r1'
    else registry.spec(
      'comparisons',
      max_value=19 if scale == 'tiny' else 99,
      test_size=32 if scale == 'tiny' else 64,
      label_noise=noise,
    )
  )
  c.env = registry.spec(
    'judgments',
    pairs=pairs,
    format=form,
    sides='first' if arm == 'first' else 'random',
  )
  c.reward_funcs = ('outcome(wrong=-1.0)',)
  if arm in ('sft', 'start'):
    c.method = 'sft'
    c.num_generations = 1
    c.algo.kl, c.algo.beta = '', 0.0
  start = f'{common.path(__file__)}:start'
  if arm != 'start':
    c.model.name = {
      'tiny': start,
      'smollm2': f'{start},smollm2',
      'rm_r1': c.model.name,
    }[scale]
  elif scale == 'rm_r1':
    raise ValueError('arm=start: a 7B model knows the form of a verdict.')
  elif scale == 'smollm2':
    c.total_steps = c.save_every = 20
    c.train_batch_size = 32
  else:
    c.total_steps = 60
    c.train_batch_size = c.groups_per_micro_batch = 64
    c.optimizer.learning_rate = 3e-3
  if arm == 'kl':
    c.algo.kl, c.algo.beta = 'k3', 0.08
  return c


def tiny():
  c = common.tiny()
  c.model.name = 'tiny()'
  c.total_steps = 300
  c.max_prompt_length = 48
  c.max_completion_length = 2  # a letter and the end token
  c.train_batch_size = c.groups_per_micro_batch = 32
  c.num_generations = 8
  c.optimizer.learning_rate = 1e-3
  c.eval.samples = 8
  c.eval_every = c.save_every = 100
  return c


def smollm2():
  c = common.smollm2()
  c.system_prompt = 'Which number is larger? Reply A or B, nothing else.'
  c.max_prompt_length = 96
  c.max_completion_length = 4  # a letter and the end token
  c.eval.samples = 4
  return c


def rm_r1():
  c = common.qwen()
  c.total_steps = 64  # an epoch of 64K pairs
  c.train_batch_size = 1024
  c.num_generations = 7
  c.max_prompt_length = 4096
  c.max_completion_length = 8192
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.algo.kl, c.algo.beta = 'k3', 1e-3
  # The paper's mini-batches of 128 are one pass over the whole batch here.
  c.eval.samples = 8
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(5):
      add(arg=f'arm={arm}', seed=seed)

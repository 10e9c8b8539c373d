r"""Tiny base models with known contents, and RL that starts from them.

  python scripts/train.py --config=configs/base_models/substrate.py:NAME \
    --workdir=DIR
  python scripts/train.py --config=configs/base_models/substrate.py:NAME,rl \
    --workdir=DIR2
  python scripts/evaluate.py --workdir=DIR --samples=64

A byte-level model imitates the solutions of `strategies` (see
rlvr_jax/envs/strategies.py), so that it has each strategy at about the share
and reliability that NAME says. `rl` is GRPO on the same tasks from that model;
--config.model.name=DIR takes another one. ARGs change contents: of
`scratchpad=`, `direct=`, `decoy=` (shares; those not given become 0),
`scratchpad_reliability=`, `direct_reliability=`, `terms=`.

What each base model is after its training, share and accuracy of strategies
on 128 held-out tasks, 4 samples each at temperature 1 (the last line `eval at
step` that training prints; seed 0):

NAME             accuracy  pass@4  scratchpad    direct        decoy
reliable         0.68      1.00    0.65 at 0.86  0.34 at 0.34
unreliable       0.21      0.63    0.21 at 0.55  0.78 at 0.12
mixed            0.41      0.82    0.40 at 0.83  0.28 at 0.13  0.32 at 0.15
hard             0.18      0.31    0.11 at 0.69                0.89 at 0.12
confident        0.75      0.98    0.65 at 0.91  0.34 at 0.44
scratchpad_only  0.96      0.99    1.00 at 0.97

`hard` has pass@1 0.18 and pass@64 0.98. `rare` goes on from scratchpad_only for
300 steps; it has pass@1 0.14, pass@64 0.65 and scratchpads in 2.9% of samples,
right 0.75 of the time. Contents are what was learned, not
what was asked for: direct answers stay below their reliability, and the
scratchpads of `unreliable`, seldom seen, are right less often.

Times on two cores that also had two to four times their share of other work:
1500 steps in 80 to 170 seconds (confident: 340), and 20 to 100 for compiling.
60 steps of `rl`, in larger micro-batches than now, took 26 to 59 seconds;
accuracy rose from 0.18 to 0.71 for `hard` (share of scratchpads from 0.11 to
0.95) and from 0.68 to 0.88 for `reliable` (0.65 to 0.98).
"""

import math

from configs import common
from rlvr_jax import registry

PRESETS = {
  'reliable': {'scratchpad': 0.65, 'direct': 0.35, 'direct_reliability': 0.7},
  'unreliable': {'scratchpad': 0.25, 'direct': 0.75, 'direct_reliability': 0.4},
  'mixed': {'scratchpad': 0.4, 'direct': 0.3, 'decoy': 0.3},
  'hard': {
    'scratchpad': 0.12,
    'decoy': 0.88,
    'scratchpad_reliability': 0.8,
  },
  'rare': {'scratchpad': 0.03, 'decoy': 0.97},
  'confident': {
    'scratchpad': 0.65,
    'direct': 0.35,
    'direct_reliability': 0.7,
    'confidence': 'uniform',
  },
  'scratchpad_only': {'scratchpad': 1.0, 'scratchpad_reliability': 0.98},
}
SHARES = ('scratchpad', 'direct', 'decoy')
RELIABILITIES = ('scratchpad_reliability', 'direct_reliability')


def get_config(arg: str = ''):
  words = [w for w in arg.split(',') if w not in ('', 'rl', 'stage=rl')]
  own_base = ','.join(words) or next(iter(PRESETS))  # ARG of the base model
  arg = common.parse_arg(
    arg,
    name=tuple(PRESETS),
    stage=('base', 'rl'),
    scale=('full', 'smoke'),
    terms=5,
    **dict.fromkeys((*SHARES, *RELIABILITIES), -1.0),  # the name's
  )
  c = common.base()
  contents = contents_of(arg)
  set_tasks(c, contents, arg['terms'])
  c.eval.num_tasks = 128
  c.eval.samples = 4
  c.eval.temperature = 1.0
  c.eval.batch_size = 128
  if arg['stage'] == 'rl':
    start_rl(c, f'{common.path(__file__)}:{own_base}')
  else:
    imitate(c)
    if arg['name'] == 'rare':  # seldom used, but known: learned, then given up
      c.model.name = f'{common.path(__file__)}:scratchpad_only'
      c.total_steps = 300
      c.optimizer.learning_rate = 3e-3
  if arg['scale'] == 'smoke':
    c.total_steps = 2
    c.train_batch_size = 2
    c.groups_per_micro_batch = 1
    c.eval.num_tasks = 4
    c.eval.batch_size = 4
  return c


def tiny(base: str):
  """`common.tiny`: RL on the tasks of the base model that ARG `base` names."""
  c = common.tiny()
  c.model.name = f'{common.path(__file__)}:{base}'
  c.env, c.max_prompt_length, c.max_completion_length = tasks_of(base)
  return c


def tasks_of(base: str) -> tuple[str, int, int]:
  """(env, max_prompt_length, max_completion_length) of a base model."""
  c = get_config(base)
  return c.env, c.max_prompt_length, c.max_completion_length


def contents_of(arg) -> dict:
  """Shares, reliabilities and what else the name's tasks have."""
  given = {k: arg[k] for k in (*SHARES, *RELIABILITIES) if arg[k] >= 0}
  contents = PRESETS[arg['name']]
  if given.keys() & set(SHARES):  # then all of them: they add up to 1
    contents = {k: v for k, v in contents.items() if k not in SHARES}
  return dict.fromkeys(SHARES, 0.0) | contents | given


def set_tasks(c, contents, terms: int) -> None:
  """Tasks and, in tokens of the byte-level model, their lengths."""
  train = min(60_000, math.comb(26, terms) - 256)
  c.env = registry.spec('strategies', **contents, terms=terms, train_size=train)
  c.max_prompt_length = terms + 19  # the chat template
  c.max_completion_length = max(2 * terms + 8, 14)  # the end token counts
  if 'confidence' in contents:
    c.max_completion_length += len('\n<confidence>0.5</confidence>')


def imitate(c) -> None:
  c.method = 'sft'
  c.model.name = 'tiny()'
  c.total_steps = 1500
  c.train_batch_size = 32
  c.num_generations = 1
  c.groups_per_micro_batch = 32
  c.optimizer.learning_rate = 1e-2
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_steps = 50
  c.log_every = 100
  c.log_transcripts = 1
  c.eval_every = 0
  c.save_every = 500


def start_rl(c, model: str) -> None:
  c.model.name = model
  c.total_steps = 60
  c.train_batch_size = 16
  c.num_generations = 16
  c.groups_per_micro_batch = 2
  c.optimizer.learning_rate = 3e-4
  c.log_every = 10
  c.eval_every = 20
  c.save_every = 20

"""Tiny base models with known contents, and RL that starts from them."""

import math

from configs import common

PRESETS = {
  'reliable': {'scratchpad': 0.65, 'direct': 0.35, 'direct_reliability': 0.7},
  'unreliable': {'scratchpad': 0.25, 'direct': 0.75, 'direct_reliability': 0.4},
  'mixed': {'scratchpad': 0.4, 'direct': 0.3, 'decoy': 0.3},
  'hard': {
    'scratchpad': 0.12,
    'decoy': 0.88,
    'scratchpad_reliability': 0.8,
  },
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
  arg = common.parse_arg(
    arg,
    name=tuple(PRESETS),
    stage=('base', 'rl'),
    scale=('full', 'smoke'),
    terms=5,
    **dict.fromkeys((*SHARES, *RELIABILITIES), -1.0),  # the name's
  )
  given = {k: arg[k] for k in (*SHARES, *RELIABILITIES) if arg[k] >= 0}
  contents = PRESETS[arg['name']]
  if given.keys() & set(SHARES):  # then all of them: they add up to 1
    contents = {k: v for k, v in contents.items() if k not in SHARES}
  contents = dict.fromkeys(SHARES, 0.0) | contents | given
  terms = arg['terms']

  c = common.base()
  spec = ', '.join(f'{k}={v!r}' for k, v in contents.items())
  train = min(60_000, math.comb(26, terms) - 256)
  c.env = f'strategies({spec}, terms={terms}, train_size={train})'
  c.max_prompt_length = terms + 19  # the chat template
  c.max_completion_length = max(2 * terms + 8, 14)  # the end token counts
  if 'confidence' in contents:
    c.max_completion_length += len('\n<confidence>0.5</confidence>')
  c.eval.num_tasks = 128
  c.eval.samples = 4
  c.eval.temperature = 1.0
  c.eval.batch_size = 128
  if arg['stage'] == 'base':
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
  else:
    c.model.name = f'configs/substrate.py:{arg["name"]}'
    c.total_steps = 60
    c.train_batch_size = 16
    c.num_generations = 16
    c.groups_per_micro_batch = 16
    c.optimizer.learning_rate = 3e-4
    c.log_every = 10
    c.eval_every = 20
    c.save_every = 20
  if arg['scale'] == 'smoke':
    c.total_steps = 2
    c.train_batch_size = 2
    c.groups_per_micro_batch = 1
    c.eval.num_tasks = 4
    c.eval.batch_size = 4
  return c

r"""When every rollout fails, can the policy teach itself from what it is told?

  python scripts/sweep.py --workdir=runs/self_distillation --config=\
configs/studies/self_distillation/self_distillation.py:SCALE
  python scripts/study.py runs/self_distillation --arms='task=rare,*' \
    --metrics='eval/accuracy,eval/pass@64'

Chains of four additions and subtractions. The base model knows additions, and
guesses the result of a subtraction among ten. It has also read: told a right
solution it copies it, in `reads` percent of the cases; told which step is wrong
it writes another result there (rlvr_jax/envs/told_chain.py). `task` says how
many of the four are subtractions, and so how often a guess is right:

  plentiful  one, p = 0.1
  rare       two, p = 0.01
  silent     four, p = 0.0001, so that pass@64 is near 0

programs_plentiful, programs_rare and programs_silent ask for a program of the
stack language instead, from its examples: a guess is right with p = 0.1, 0.01
and 0.0003. Each has a base model of its own, which imitates such guesses, told
or not (rlvr_jax/envs/told_programs.py); of a wrong one it is told the first
test that fails: an example, with what came out, or that another one fails.

ARG `arm` is sdpo, sdpo_feedback and sdpo_sibling (feedback, or a right row of
the group, alone), opsd, sdft, rlsd of configs/self_distillation.py, opd (a
stronger teacher: the model after imitation of right solutions), grpo, or sft
(imitation of the solutions that opsd is told). `stage=base` is the base model,
`stage=strong` the teacher of opd. SCALE is tiny (the default), or smollm2 and
qwen3_8b, which have not been run: the tasks and settings of
configs/self_distillation.py at smollm2 and qwen.
"""

from configs import common, self_distillation
from configs.base_models import chains
from rlvr_jax import registry

SCALES = ('tiny', 'smollm2', 'qwen3_8b')
CHAINS = {'rare': '++--', 'plentiful': '+++-', 'silent': '----'}
PROGRAMS = {
  'programs_plentiful': dict(size=3, max_literal=-1, max_output=99, examples=3),
  'programs_rare': dict(size=5, max_output=99, examples=3),
  'programs_silent': dict(size=8, outputs=2, max_output=99, examples=2),
}
TASKS = (*CHAINS, *PROGRAMS)
ARMS = {
  'sdpo': self_distillation.METHODS['sdpo'],
  'sdpo_feedback': self_distillation.METHODS['sdpo']
  | {'teacher.context': 'feedback'},
  'sdpo_sibling': self_distillation.METHODS['sdpo']
  | {'teacher.context': 'solution'},
  'opsd': self_distillation.METHODS['opsd'],
  'sdft': self_distillation.METHODS['sdft'],
  'opd': self_distillation.METHODS['opd'],
  'rlsd': self_distillation.METHODS['rlsd'],
  'grpo': {},
  'sft': {'method': 'sft'},
}
SIZES = {'depth': 4, 'ops': '+-', 'train_size': 8000, 'test_size': 64}
# Most tokens of a question, of one with what is told, and of an answer.
LENGTHS = {'chain': (28, 72, 36), 'programs': (64, 120, 40)}


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg,
    scale=SCALES,
    task=TASKS,
    arm=tuple(ARMS),
    reads=100,
    stage=('rl', 'base', 'strong'),
    seed=0,
  )
  here = f'{common.path(__file__)}:stage='
  # Each seed has base models of its own, as they differ in what they learn from
  # the same teacher: one for all chains, one for each kind of programs.
  seed = f',seed={arg["seed"]}' if arg['seed'] else ''
  task = f',task={arg["task"]}' if arg['task'] in PROGRAMS else ''
  if arg['scale'] != 'tiny':
    if (arg['stage'], arg['task'], arg['reads']) != ('rl', 'rare', 100):
      raise ValueError('stage, task and reads are of the scale tiny')
    small = arg['scale'] == 'smollm2'
    c = self_distillation.get_config('grpo,smollm2' if small else 'grpo,qwen')
    stronger = f'{common.path(__file__)}:scale=smollm2,arm=sft'
    if not small:
      c.model.name, stronger = 'qwen3_8b', 'Qwen/Qwen3-14B'
    if not small and arg['arm'].startswith('sdpo'):  # the others keep 1e-6
      c.optimizer.learning_rate = 1e-5
      c.optimizer.warmup_steps = 10
  elif arg['stage'] == 'rl':
    c = tiny(arg['task'])
    reads = '' if arg['reads'] == 100 else f',reads={arg["reads"]}'
    c.model.name = f'{here}base{task}{reads}{seed}'
    stronger = f'{here}strong{task}{seed}'
  else:
    c = base_model(arg['task'], arg['reads'])
    if arg['stage'] == 'strong':
      c.env = tasks(arg['task'])
      c.model.name = f'{here}base{task}{seed}'
      c.total_steps = 400
  c.seed = arg['seed']
  if arg['stage'] != 'rl':
    return c
  c.update_from_flattened_dict(ARMS[arg['arm']])
  if arg['scale'] == 'tiny':
    c.teacher.template = 'plain'
  if arg['arm'] == 'opd':
    c.teacher.name = stronger
  if arg['arm'] == 'sft':
    # As many rows as the others draw.
    c.train_batch_size *= c.num_generations
    c.groups_per_micro_batch *= c.num_generations
    c.num_generations = 1
  elif c.algo.distill and arg['arm'] != 'opd':
    c.teacher.accuracy_every = max(c.total_steps // 4, 1)
  return c


def tasks(task: str, **chain) -> registry.Spec:
  """What is asked; of chains all patterns, but for those that `chain` names."""
  if task not in PROGRAMS:
    return registry.spec('chain', **SIZES, **chain)
  return registry.spec(
    'programs', **PROGRAMS[task], terse=True, apart='questions',
    train_size=8000, test_size=64,
  )  # fmt: skip


def base_model(task: str, reads: int):
  c = chains.get_config('form')  # goes on from chains of two operations
  c.total_steps = 1200
  told = reads / 100
  c.env = registry.spec('told_chain', **SIZES, unknown='-', reliability=told)
  if task in PROGRAMS:
    c.env = registry.spec(
      'told_programs', tasks(task), told=0.8, feedback=0.4, reliability=told
    )
  _, c.max_prompt_length, c.max_completion_length = lengths(task)
  c.eval.samples = 16
  return c


def lengths(task: str) -> tuple[int, int, int]:
  return LENGTHS['programs' if task in PROGRAMS else 'chain']


def tiny(task: str):
  c = common.tiny()
  c.env = tasks(task, pattern=CHAINS.get(task, ''))
  c.max_prompt_length, _, c.max_completion_length = lengths(task)
  c.train_batch_size, c.num_generations = 16, 8
  c.algo.estimate = 'dr_grpo'
  c.algo.aggregate = 'seq_mean_token_sum'
  c.teacher.max_context_length = 72
  # With 1e-3 `grpo` fell from 0.10 to 0.02 on `plentiful`.
  c.optimizer.learning_rate = 5e-4
  c.total_steps = 100
  c.eval_every = 25
  c.save_every = 25
  return c


def sweep(add):
  for seed in range(5):
    for task in TASKS:
      for arm in ARMS:
        add(arg=f'task={task},arm={arm},seed={seed}')
    for reads in (0, 50) if seed < 3 else ():  # how good it is in context
      for arm in ('sdpo', 'opsd'):
        add(arg=f'task=rare,reads={reads},arm={arm},seed={seed}')

r"""When is outcome reward informative? Maps along GRPO from many base models.

  bash configs/studies/signal_map/run.sh

makes README.md's table and the picture: base models, GRPO from each, the map of
its checkpoints. ARG `base` is

  share_1 ... share_65  sums of letters: that share of the model's solutions, in
              percent, uses a scratchpad that is right 4 times of 5; the others
              are a decoy, which is right by chance
  reliable    65% scratchpads; the others guess the right answer half the time
  confident   as reliable, and a confidence is stated at random after the answer
  chain_0 ... chain_3   chains of four operations, of which the model knows all
              but that many, and guesses the result of the others among ten
  questions   20 Questions, 16 objects, imitated scripted games: its own RL is
              that of studies/twenty_questions
  smollm2_20, smollm2_99   SmolLM2-135M-Instruct on sums up to N + N:
              RL is the quickstart's, 16 steps of 8 problems

`seed` is of the base model and of RL, `steps` are those of RL, `stage=base` is
the base model itself. batch_size.py goes on from these runs.
"""

from configs import common, quickstart
from configs.base_models import chains, substrate
from configs.studies.twenty_questions import twenty_questions
from rlvr_jax import registry

SHARES = {
  'share_1': 'rare,scratchpad=0.01,decoy=0.99',
  'share_3': 'rare',
  'share_12': 'hard',
  'share_30': 'hard,scratchpad=0.3,decoy=0.7',
  'share_65': 'hard,scratchpad=0.65,decoy=0.35',
  'reliable': 'reliable',
  'confident': 'confident',
}
PATTERNS = {
  'chain_0': '++++',
  'chain_1': '+++-',
  'chain_2': '++--',
  'chain_3': '+---',
}
SMOLLM2 = {'smollm2_20': 20, 'smollm2_99': 99}
GROUP, PROMPTS, STEPS = 8, 32, 80


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg,
    base=('share_12', *SHARES, *PATTERNS, 'questions', *SMOLLM2),
    stage=('rl', 'base'),
    seed=0,
    steps=STEPS,
  )
  base, seed = arg['base'], arg['seed']
  if base in SMOLLM2:
    if arg['stage'] == 'base':
      raise ValueError(
        f'stage=base: {base} is not trained here, it comes whole'
      )
    c = smollm2(SMOLLM2[base])
  elif arg['stage'] == 'base':
    c = base_model(base)
  else:
    c = rl(base)
    c.total_steps = arg['steps']
    # All chains start from one model.
    first = 'chain_0' if base in PATTERNS else base
    c.model.name = (
      f'{common.path(__file__)}:stage=base,base={first},seed={seed}'
    )
  c.seed = seed
  return c


def base_model(base: str):
  if base in SHARES:
    return substrate.get_config(SHARES[base])
  if base in PATTERNS:
    return chains.get_config('form')
  return twenty_questions.get_config('stage=base')


def rl(base: str):
  c = common.tiny()
  if base in SHARES:
    c.env, c.max_prompt_length, c.max_completion_length = substrate.tasks_of(
      SHARES[base]
    )
  elif base in PATTERNS:
    c.env = registry.spec(
      'chain', depth=4, ops='+-', pattern=PATTERNS[base], test_size=64
    )
    c.max_prompt_length, c.max_completion_length = 64, 40
  else:
    c = twenty_questions.get_config('credit=outcome')
  c.algo.estimate = 'dr_grpo'
  c.algo.aggregate = 'seq_mean_token_sum'
  c.num_generations = GROUP
  if base != 'questions':
    c.train_batch_size = PROMPTS
    c.optimizer.learning_rate = 3e-4
    c.eval.samples = 16
  c.groups_per_micro_batch = 4  # the live signal needs several
  c.eval_every = 20
  c.save_every = 5
  c.max_to_keep = 17
  return c


def smollm2(largest: int):
  c = quickstart.get_config()
  c.env = registry.spec('arithmetic', max_value=largest, ops='+', test_size=128)
  c.algo.estimate = 'dr_grpo'
  c.algo.aggregate = 'seq_mean_token_sum'
  c.groups_per_micro_batch = 2  # the live signal needs several
  c.save_every = 4
  c.max_to_keep = 5
  return c


def sweep(add):
  for seed in range(3):
    for base in (*SHARES, *PATTERNS):
      add(arg=f'base={base},seed={seed}')
  for base in ('questions', *SMOLLM2):
    add(arg=f'base={base},seed=0')

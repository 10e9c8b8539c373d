r"""Credit for questions: outcome, step by step, ΔBelief, or a critic.

  python scripts/sweep.py \
    --config=configs/studies/twenty_questions/twenty_questions.py:SCALE \
    --workdir=runs/credit
  python scripts/study.py runs/credit --over=accuracy,turns/gain \
    --metrics='eval/accuracy,eval/pass@8,eval/turns_to_success,eval/repeated'

After Auzina et al. (2026, arXiv:2602.12342): a turn is paid for how much it
raised the policy's own log-probability of the secret. ARG `credit` is
delta_belief, outcome, stepwise (rewards to go), critic (PPO with GAE); `belief`
is current or initial (a frozen copy, the control for self-reference);
`statistics` is living or padded (the authors' code). With win=every a turn of
delta_belief also has the game's outcome, 2 for a win and -0.05 a turn, as the
authors have it; with win=last that falls on the last turn. SCALE is

  tiny        the default: a made-up world of 16 objects and a byte-level model
              that learns it from scripted games first; two minutes a run on a
              CPU core. README.md says what came out.
  smollm2     people and their looks, by SmolLM2-135M that has imitated games
  qwen3_1.7b  countries, with what the authors set: 240 secrets x 16, 20 turns of
              50 tokens, learning rate 3e-5, -5 for an invalid turn, -1 for a
              repeated one; all parameters instead of adapters, a table instead
              of a judge. The architecture without weights:
              --config.model.name=Klingspor/Qwen3-1.7B-SFT brings the authors'
              start (needs [hub]).

`stage=base` is the imitation.
"""

from configs import common
from rlvr_jax import registry

CREDITS = {
  'delta_belief': {'algo.credit': 'delta_belief(weight=0.1)'},
  'outcome': {'algo.credit': 'outcome'},
  'stepwise': {'algo.credit': 'stepwise(gamma=1.0)'},
  'critic': {
    'algo.credit': 'outcome',
    'algo.estimate': 'gae(gamma=1.0, lam=0.95)',
  },
}
# What delta_belief alone takes, with defaults.
OF_BELIEF = {'belief': 'current', 'win': 'every', 'weight': 0.1}
# The game's outcome, on its last turn or on every one.
WINS = {
  'every': ('win(2.0, every)', 'length(-0.05, every)'),
  'last': ('win(2.0)', 'turn_cost(-0.05)'),
}


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg,
    scale=tuple(SCALES),
    stage=('rl', 'base'),
    credit=tuple(CREDITS),
    belief=('current', 'initial'),
    statistics=('living', 'padded'),
    win=('every', 'last'),
    weight=0.1,
  )
  credit, believes = arg['credit'], arg['credit'] == 'delta_belief'
  if not believes and any(arg[k] != v for k, v in OF_BELIEF.items()):
    raise ValueError(
      f'belief, win and weight are of credit=delta_belief, not {credit}.'
    )
  c = SCALES[arg['scale']]()
  c.update_from_flattened_dict(CREDITS[credit])
  c.algo.turn_statistics = arg['statistics']
  if believes:
    c.algo.credit = registry.spec('delta_belief', weight=arg['weight'])
    c.dialogue.belief = arg['belief']
  # The others hand a turn what comes after it; here it has the outcome at once.
  won = WINS[arg['win'] if believes else 'last']
  c.reward_funcs = (*won, *c.reward_funcs)
  c.reward_weights = (1.0,) * len(c.reward_funcs)
  if arg['stage'] == 'base':
    imitate(c, arg['scale'])
  return c


def sweep(add):
  arms = (
    'credit=outcome',
    'credit=stepwise',
    'credit=delta_belief',
    'credit=delta_belief,belief=initial',
    'credit=delta_belief,statistics=padded',
    'credit=delta_belief,win=last',
    'credit=delta_belief,belief=initial,win=last',
    'credit=delta_belief,weight=0.0',
    'credit=critic',
  )
  for seed in range(5):
    for arm in arms:
      add(arg=arm, seed=seed)


##### scales #####


def tiny():
  c = common.base()
  c.model.name = f'{common.path(__file__)}:stage=base'
  c.env = games('tiny', test_secrets=4, validation_secrets=2)
  c.reward_funcs = ('invalid(-1.0)', 'repeated(-0.2)')
  c.algo.surrogate = 'clip(low=0.2, high=0.28)'
  c.max_prompt_length = 32
  c.max_completion_length = 8
  c.dialogue.max_turns = 8
  c.dialogue.max_reply_length = 32
  c.dialogue.max_length = 256
  c.dialogue.max_elicit_length = 8
  c.train_batch_size = 8
  c.num_generations = 8
  c.groups_per_micro_batch = 8
  c.total_steps = 30
  c.optimizer.learning_rate = 1e-3
  c.eval.num_tasks = 4
  c.eval.samples = 32
  c.eval.temperature = 1.0
  c.eval.batch_size = 256
  c.eval.max_turns = 16  # won_within@8: as many as trained on
  c.eval_every = 0
  c.log_every = 10
  c.save_every = 15
  return c


def smollm2():
  c = tiny()
  c.model.name = f'{common.path(__file__)}:smollm2,stage=base'
  c.env = games('smollm2', test_secrets=6, validation_secrets=2)
  c.max_prompt_length = 256
  c.max_completion_length = 16
  c.dialogue.max_turns = 10
  c.dialogue.max_length = 320
  c.dialogue.max_elicit_length = 12
  c.groups_per_micro_batch = 1
  c.optimizer.learning_rate = 1e-5
  c.eval.num_tasks = 6
  c.eval.samples = 8
  c.eval.batch_size = 48
  c.eval.max_turns = 20
  return c


def qwen3():
  c = smollm2()
  c.model.name = 'qwen3_1.7b'  # bring a start that has imitated games
  c.model.dtype = 'bfloat16'
  c.model.remat = True
  c.mesh.shape = (1, -1, 4)  # 16 shards of v5p:4x4x4 divide 240 secrets
  c.max_logp_diff = 1.0  # bfloat16 rounds differently in sampler and trainer
  c.env = games('qwen3_1.7b', test_secrets=32, validation_secrets=8)
  c.reward_funcs = ('invalid(-5.0)', 'repeated(-1.0)')
  c.train_batch_size, c.num_generations = 240, 16
  c.max_completion_length = 50
  c.dialogue.max_turns = 20
  c.dialogue.max_length = 1024
  c.groups_per_micro_batch = 16
  c.optimizer.learning_rate = 3e-5
  c.optimizer.weight_decay = 0.01
  c.total_steps = 60
  c.eval.num_tasks = 32
  c.eval.temperature = 0.7
  c.eval.top_p = 0.8
  c.eval.batch_size = 256
  c.eval.max_turns = 50
  return c


SCALES = {'tiny': tiny, 'smollm2': smollm2, 'qwen3_1.7b': qwen3}
WORLDS = {
  'tiny': 'attributes(objects=16, attributes=8)',
  'smollm2': 'characters()',
  'qwen3_1.7b': 'countries()',
}


def games(scale: str, **options) -> str:
  """The env of a scale's world."""
  return registry.spec('guessing', world=WORLDS[scale], **options)


##### the model that RL starts from: it has imitated scripted games #####

BASES = {
  'tiny': {
    'model.name': 'tiny()',
    'total_steps': 3000,
    'train_batch_size': 32,
    'groups_per_micro_batch': 32,
    'optimizer.learning_rate': 2.5e-3,
    'optimizer.warmup_steps': 50,
    'log_every': 50,
    'save_every': 500,
  },
  'smollm2': {
    'model.name': 'smollm2',
    'total_steps': 100,
    'train_batch_size': 16,
    'optimizer.learning_rate': 5e-5,
    'optimizer.warmup_steps': 5,
  },
}
BASES['qwen3_1.7b'] = BASES['smollm2'] | {'model.name': 'qwen3_1.7b'}


def imitate(c, scale: str) -> None:
  """Turns RL at a scale into the imitation that comes before it."""
  c.method = 'sft'
  c.env = games(
    scale,
    test_secrets=4,
    validation_secrets=2,
    all_secrets=True,
    games=100_000,
    patience=(0, 5),
    demonstrate=True,
    turns=8,
  )
  c.reward_funcs, c.reward_weights = ('win(1.0)',), (1.0,)
  c.algo.credit, c.algo.estimate = 'outcome', 'grpo'
  c.dialogue.belief = ''
  c.eval.max_turns = 0
  c.num_generations = 1
  c.optimizer.schedule = 'cosine'
  c.log_transcripts = 1
  c.update_from_flattened_dict(BASES[scale])

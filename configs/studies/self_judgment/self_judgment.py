r"""Does reward by pairwise judgments raise verified accuracy, or collapse?

  python scripts/sweep.py --workdir=runs/self_judgment \
    --config=configs/studies/self_judgment/self_judgment.py:SCALE
  python scripts/study.py runs/self_judgment --control=arm=outcome

The reward of a group is relative: SERL's share of wins has the mean 1/2
whatever the policy learns, so progress is what the verifier says of held-out
tasks, `eval/accuracy`. Arms of SCALE tiny (the default), where a judge's error
and its preference for what is shown first are set and no model is asked:

  outcome    the verifier's reward: the reference
  serl       all pairs, both orders (arXiv 2511.07922); the judge errs in .2
  serl_bias  the same judge, which in .5 of the cases names the first instead
  first      it always names the first: no signal by construction
  flipped    it always names the wrong answer
  brpo       all against one member, unanimous (arXiv 2506.00103); errs in .2
  majority   the same by the majority of judgments

SCALE smollm2: outcome, and a SmolLM2 that knows the form of a verdict alone
(`start` of studies/judges) and judges its own answers in two prompts an update,
`self` (its judgments are trained too), `frozen` (a copy from before training
judges), `first` and `flipped` as controls. SCALE qwen3_8b: the same
arms with the hyperparameters of SERL's scripts, for v5p:4x4x4, on GSM8K, whose
answers can be verified; --config.model.name=Qwen/Qwen3-8B brings weights.
"""

from configs import common
from configs.base_models import substrate

PAIRWISE = 'judge(format=letter, samples=4)'
REFERENCE = 'judge(format=letter, compare=reference, samples=4{})'


def noisy(error: float, first: float = 0.0, reward: str = PAIRWISE) -> dict:
  return {
    'reward_funcs': (reward,),
    'judge.control': f'noisy(error={error}, first={first})',
  }


BRPO = {'algo.estimate': 'reinforce'}  # rewards are the advantages
TINY = {
  'outcome': {},
  'serl': noisy(0.2),
  'serl_bias': noisy(0.2, 0.5),
  'first': noisy(0.2, 1.0),
  'flipped': noisy(1.0),
  'brpo': noisy(0.2, reward=REFERENCE.format('')) | BRPO,
  'majority': noisy(0.2, reward=REFERENCE.format(', rule=majority')) | BRPO,
}


def judging(model: str, reward: str) -> dict:
  """Arms in which a real model judges."""
  own = {'reward_funcs': (reward,), 'judge.name': 'policy'}
  return {
    'outcome': {},
    'self': own | {'judge.weight': 1.0},
    'frozen': own | {'judge.name': model},
    'first': own | {'judge.weight': 1.0, 'judge.control': 'first'},
    'flipped': own | {'judge.control': 'flipped'},
  }


START = 'configs/studies/judges/judges.py:start,smollm2'
KNOWN = {
  'tiny': TINY,
  'smollm2': judging(START, PAIRWISE),
  # The judge thinks before its verdict.
  'qwen3_8b': judging('Qwen/Qwen3-8B', 'judge(format=rrm, samples=4)'),
}
ARMS = tuple({**TINY, **KNOWN['smollm2']})


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(KNOWN), arm=ARMS)
  known = KNOWN[arg['scale']]
  if arg['arm'] not in known:
    raise ValueError(
      f'arm={arg["arm"]} with scale={arg["scale"]}: there are '
      f'{", ".join(known)}.'
    )
  tiny = lambda: substrate.tiny('hard')
  c = {'tiny': tiny, 'smollm2': smollm2, 'qwen3_8b': qwen3_8b}[arg['scale']]()
  c.update_from_flattened_dict(known[arg['arm']])
  return c


def smollm2():
  c = common.smollm2()
  c.model.name = START
  c.num_generations = 4  # the paper's group
  c.judge.max_prompt_length = 160
  c.judge.max_completion_length = 4
  c.judge.batch_size = 96
  return c


def qwen3_8b():
  # The batch is ours; so are prompts of 512 tokens, for which there 4,096 were.
  c = common.qwen()
  c.model.name = 'qwen3_8b'
  c.train_batch_size, c.num_generations = 64, 4
  c.temperature = 0.9
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_steps = 5
  c.judge.max_prompt_length = 4096
  c.judge.max_completion_length = 2048
  c.judge.temperature = 0.9
  c.judge.batch_size = 64
  c.eval.samples = 4
  return c


def sweep(add):
  for arm in TINY:
    for seed in range(5):
      add(arg=f'arm={arm}', seed=seed)

r"""Expert steps before outcome reward: SRL, RLVR, both, and imitation.

  python scripts/sweep.py --config=configs/studies/srl/srl.py:SCALE \
    --workdir=runs/srl
  python scripts/study.py runs/srl --metrics='eval/accuracy,eval/pass@64' \
    --over=accuracy,reward,batch_empty

After Deng et al. (2025, arXiv:2510.25992): where a model almost never solves a
problem, outcome reward has no gradient; the similarity of its next step with an
expert's has one. ARG `arm` is

  srl       similarity on step tasks, groups filtered by the std of rewards
  rlvr      outcome reward on whole problems
  srl_rlvr  rlvr from srl's best checkpoint by validation accuracy
  sft       imitation of the same steps; sft_rlvr: rlvr from there
  whole     similarity with the whole solution at once

A second stage trains the first one into runs/srl/ if it is not there. SCALE is

  tiny        the default: chains of 4 subtractions, by the byte-level model of
              base_models/chains.py, which knows their form and guesses their
              results. README.md says what came out.
  smollm2     chains of 3 mixed operations, by SmolLM2-135M
  qwen2.5_7b  GSM8K with the paper's hyperparameters: 512 step prompts (128
              whole ones) x 8, learning rate 5e-7, no KL, 60 problems for
              validation. The paper's threshold of the filter, clip range and
              lengths are unknown; here 0.05, 0.2 and common.py's.
"""

from configs import common
from rlvr_jax import registry

SOURCES = {
  'tiny': "chain(depth=4, ops='-', train_size=2000, test_size=64)",
  'smollm2': 'chain(depth=3, train_size=2000, test_size=64)',
  'qwen2.5_7b': "gsm8k(data_dir='data/gsm8k', download=True)",
}
FILTERED = {'min_reward_std': 0.05}
ARMS = {
  'srl': FILTERED,
  'rlvr': {},
  'srl_rlvr': {},
  'sft': {'method': 'sft', 'num_generations': 1, 'max_resample_batches': 0},
  'sft_rlvr': {},
  'whole': FILTERED,
}
# What `steps` makes of a problem. Whole problems in all arms alike: those of
# validation are not trained on.
WHOLE = {'only_whole': True}
TASKS = {'srl': {}, 'sft': {}, 'whole': {'whole': True}}
# What an arm changes in a scale.
AT_SCALE = {
  ('tiny', 'sft'): {'train_batch_size': 64, 'groups_per_micro_batch': 64},
  ('qwen2.5_7b', 'srl'): {'train_batch_size': 512},
  ('qwen2.5_7b', 'sft'): {'optimizer.learning_rate': 5e-6},
}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), arm=tuple(ARMS), seed=0)
  scale, arm, seed = arg['scale'], arg['arm'], arg['seed']
  big = scale != 'tiny'
  c = SCALES[scale]()
  c.seed = seed
  c.env = registry.spec(
    'steps',
    registry.Spec(SOURCES[scale]),
    terse=not big,
    think=big,
    **TASKS.get(arm, WHOLE),
  )
  c.algo.estimate = 'grpo(ddof=0)'
  c.algo.surrogate = 'clip(low=0.2, high=0.2)'
  c.algo.aggregate = 'seq_mean_token_mean'
  c.max_resample_batches = 2
  c.eval.split = 'validation'
  c.eval.num_tasks = 60
  c.keep_best = 'eval/accuracy'
  c.update_from_flattened_dict(ARMS[arm] | AT_SCALE.get((scale, arm), {}))
  if arm in ('srl', 'whole'):
    think = 'required' if big else 'none'
    c.reward_funcs = (registry.spec('similarity', think=think),)
  if arm.endswith('_rlvr'):
    # Each seed has its own first stage, which the sweep has made before.
    named = f'scale={scale},' if big else ''
    first = arm.removesuffix('_rlvr')
    c.model.name = f'{common.path(__file__)}:{named}arm={first},seed={seed}'
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(5):
      add(arg=f'arm={arm},seed={seed}')


def tiny():
  c = common.tiny()
  c.model.name = 'configs/base_models/chains.py'
  c.max_prompt_length = 64
  c.max_completion_length = 40  # of whole problems, to evaluate
  c.optimizer.learning_rate = 1e-3
  c.total_steps = 80
  c.eval_every = c.save_every = 40
  return c


def qwen():
  c = common.qwen()
  c.train_batch_size = 128
  c.num_generations = 8
  c.optimizer.learning_rate = 5e-7
  c.eval.samples = 1
  c.eval.temperature = 0.0
  c.eval_every = c.save_every = 20
  c.total_steps = 400
  return c


SCALES = {'tiny': tiny, 'smollm2': common.smollm2, 'qwen2.5_7b': qwen}

r"""Does training on the confidence in answers beat decoding with it?

  bash configs/studies/rlsf/run.sh

After van Niekerk et al. (2025, arXiv:2507.21931): branches of a prompt, by the
k most likely first tokens, are ranked by the gap of the two largest
probabilities at the tokens of their answers, and the policy learns from these
preferences; nobody says which answer is right. ARG `arm` is

  dpo         pairs of k branches of the base model, from a file that run.sh
              makes, with the paper's beta and label smoothing
  ppo         PPO against a reward model of the same pairs (arm
              `reward_model`), with the paper's KL, discount and lambda
  online_dpo  the same loss on k branches of the policy as it is at each step
  gap         GRPO on samples, the gap as the reward
  outcome     GRPO on samples, with gold answers
  none        no training

Each run is evaluated on branches: eval/cot_decoding@1 is greedy decoding,
eval/cot_decoding@K decoding by confidence, the baseline that needs no training,
eval/cot_decoding_ece@K the calibration error of the gaps that it goes by.

ARG `base` is what the confident answers of the base model are (see
configs/base_models/substrate.py). In both it writes the answer at once in three
of five samples and is unsure of it. The others are, in `aligned`, scratchpads,
sure and mostly right; in `opposed`, mostly a decoy, sure and mostly wrong,
while the unsure answer is more often right: there the method must hurt. Two
first tokens are likely, so k is 2; further ones force the base model into what
it never saw, where it is sure of wrong answers: k=10 is the paper's.

ARG `scale` is tiny (the default, all of the above), smollm2 (sums), or
qwen2.5_7b, the paper's numbers on GSM8K for v5e:8x8 (it has LoRA for the reward
model; here the policy has it too, whose learning rate of 5e-5 is one of
adapters). Its weights are downloaded, which needs [hub];
--config.model.name=qwen2.5_7b is the architecture without them, to compile.
Both have k=10; the README has one arm of smollm2, of fewer pairs, and the
other was not run. Their pairs are made by `run.sh SCALE`.
"""

from configs import common
from configs.base_models import substrate
from rlvr_jax import registry

BASES = {
  'aligned': 'scratchpad=0.4,direct=0.6,direct_reliability=0.4',
  'opposed': 'scratchpad=0.1,direct=0.6,decoy=0.3,direct_reliability=0.7',
}
ARMS = ('dpo', 'ppo', 'online_dpo', 'gap', 'outcome', 'none', 'reward_model')
# Of the scale tiny: 40 steps of 64 pairs, of 512 prompts, are 5 epochs.
TINY = {
  'dpo': {'train_batch_size': 64},
  'reward_model': {'train_batch_size': 64, 'optimizer.learning_rate': 1e-3},
  'ppo': {'optimizer.value_learning_rate': 1e-2},
}
DPO = 'dpo(beta=0.2, label_smoothing=0.01)'


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg, scale=tuple(SCALES), arm=ARMS, base=tuple(BASES), k=0
  )
  scale, base = arg['scale'], arg['base']
  k = arg['k'] or (2 if scale == 'tiny' else 10)
  if scale == 'tiny':
    c = tiny(BASES[base])
  elif base == 'aligned':
    c, base = SCALES[scale](), scale
  else:
    raise ValueError(f'base={base} is of the scale tiny: leave it out.')
  c.eval.branch = True
  c.eval.samples = 10
  if arg['arm'] in ('dpo', 'reward_model'):
    pairs = f'runs/rlsf/pairs_{base}_{k}.jsonl'
    if arg['arm'] == 'dpo':
      c.method = 'preference'
      c.algo.preference = DPO
      tasks = registry.Spec(c.env)
      c.env = registry.spec('pairs', path=pairs, test_env=tasks)
    else:
      c.method = 'reward_model'
      c.algo.reward_loss = 'bradley_terry'
      c.eval.branch = False
      c.env = registry.spec('pairs', path=pairs)
    c.num_generations = 2
  elif arg['arm'] == 'ppo':
    which = f'base={base}' if scale == 'tiny' else f'scale={scale}'
    scores = f'{common.path(__file__)}:{which},arm=reward_model'
    c.reward_funcs = (registry.spec('reward_model', scores),)
    c.algo.estimate = 'gae(gamma=0.98, lam=0.95)'
    c.algo.surrogate = 'clip(low=0.2, high=0.2)'
    c.algo.reward_kl, c.algo.reward_beta = 'k1', 0.05
  elif arg['arm'] == 'online_dpo':
    c.algo.preference = DPO
    c.sampling.branch = True
    c.num_generations = k
    c.reward_funcs = ('answer_gap',)
  elif arg['arm'] == 'gap':
    c.reward_funcs = ('answer_gap(missing=0.0)',)
  elif arg['arm'] == 'none':
    c.total_steps = c.save_every = 1
    c.optimizer.learning_rate = 0.0
  if scale == 'tiny':
    c.update_from_flattened_dict(TINY.get(arg['arm'], {}))
  return c


def sweep(add):
  arms = ('dpo', 'dpo,k=10', 'ppo', 'online_dpo', 'gap', 'outcome', 'none')
  for base in BASES:
    for arm in arms:
      for seed in range(5):
        add(arg=f'base={base},arm={arm}', seed=seed)


def tiny(base):
  c = substrate.tiny(base)
  c.eval.num_tasks = 128
  c.save_every = 10
  return c


def smollm2():
  c = common.smollm2()
  c.env = "arithmetic(max_value=20, ops='+', test_size=128)"
  c.total_steps = 80  # with a pair of each of 128 prompts: 5 epochs
  return c


def qwen():
  c = common.qwen()
  c.model.name = 'Qwen/Qwen2.5-7B-Instruct'
  c.model.lora = 'lora(rank=16, alpha=32, on=all)'
  c.temperature = 0.7
  c.train_batch_size, c.num_generations = 64, 8
  c.total_steps = 5 * 7473 // 64  # 5 epochs
  c.optimizer.learning_rate = 5e-5
  c.eval.num_tasks = 256
  return c


SCALES = {'tiny': tiny, 'smollm2': smollm2, 'qwen2.5_7b': qwen}

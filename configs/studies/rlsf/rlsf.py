r"""Does training on the confidence in answers beat decoding with it?

  bash configs/studies/rlsf/run.sh

After van Niekerk et al. (2025, arXiv:2507.21931): branches of a prompt, by the
K most likely first tokens, are ranked by the gap of the two largest
probabilities at the tokens of their answers, and the policy learns from these
preferences; nobody says which answer is right. ARG `arm` is

  dpo         pairs of branches of the base model's, from a file that run.sh
              makes, with the paper's beta and label smoothing (offline)
  online_dpo  the same loss on branches of the policy as it is at each step
  gap         GRPO on samples, the gap as the reward
  outcome     GRPO on samples, with gold answers
  none        no training

Each run is evaluated on branches: eval/cot_decoding@1 is greedy decoding,
eval/cot_decoding@K decoding by confidence, the baseline that needs no training,
eval/cot_decoding_ece@K the calibration error of the gaps that it goes by.

ARG `base` is what the confident answers of the base model are (see
configs/base_models/substrate.py). In both it writes the answer at once in three
of five samples and is unsure of it. The others are, in `aligned`, scratchpads,
sure and mostly right; in `opposed`, a decoy, sure and mostly wrong, while the
unsure answer is mostly right: there the method must hurt.
"""

from configs import common
from configs.base_models import substrate
from rlvr_jax import registry

BASES = {
  'aligned': 'scratchpad=0.4,direct=0.6,direct_reliability=0.4',
  'opposed': 'decoy=0.4,direct=0.6,direct_reliability=0.7',
}
ARMS = ('dpo', 'online_dpo', 'gap', 'outcome', 'none')
BRANCHES = 10  # K
DPO = 'dpo(beta=0.2, label_smoothing=0.01)'


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, scale=tuple(SCALES), arm=ARMS, base=tuple(BASES))
  c = SCALES[arg['scale']](BASES[arg['base']])
  c.eval.branch = True
  c.eval.samples = BRANCHES
  if arg['arm'] == 'dpo':
    c.method = 'preference'
    c.algo.preference = DPO
    c.env = registry.spec(
      'pairs',
      path=f'runs/rlsf/pairs_{arg["base"]}.jsonl',
      test_env=registry.Spec(c.env),
    )
    c.train_batch_size *= BRANCHES
    c.num_generations = 2
  elif arg['arm'] == 'online_dpo':
    c.algo.preference = DPO
    c.sampling.branch = True
    c.num_generations = BRANCHES
    c.reward_funcs = ('answer_gap',)
  elif arg['arm'] == 'gap':
    c.reward_funcs = ('answer_gap(missing=0.0)',)
  elif arg['arm'] == 'none':
    c.total_steps = c.save_every = 1
    c.optimizer.learning_rate = 0.0
  return c


def sweep(add):
  for base in BASES:
    for arm in ARMS:
      for seed in range(5):
        add(arg=f'base={base},arm={arm}', seed=seed)


def tiny(base):
  c = substrate.tiny(base)
  c.eval.num_tasks = 128
  return c


SCALES = {'tiny': tiny}

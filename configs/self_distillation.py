"""The policy as its own teacher: SDPO, OPSD, SDFT and their relatives by name.

  python scripts/train.py --config=configs/self_distillation.py:sdpo \
    --workdir=runs/sdpo

ARG is a method and a scale, such as `opsd,tiny`. The methods are values of
`teacher` and `algo` (METHODS), which docs/USE.md explains, and which a study
takes by `c.update_from_flattened_dict(self_distillation.METHODS['sdpo'])`:

  sdpo       a right row of the group, else feedback; EMA; Jensen-Shannon
  sdpo_rich  the same with the paper's settings for rich feedback
  opsd       the task's solution, initial weights
  sdft       a demonstration, EMA
  opd        another model (set teacher.name), as an advantage, no context
  rlsd       the task's solution scales the outcome's advantage
  sdar       a gated term beside the outcome's
  ssopd      the shortest right row teaches the longest wrong one
  grpo       outcome reward alone, to compare

Tasks are chains of one-digit operations, which have solutions and feedback; at
scale `qwen` GSM8K, with the batch and the learning rates of SDPO's Table 12.
"""

from configs import common

_SDPO = {
  'algo.distill': 'loss(ratio_cap=2.0)',
  'algo.divergence': 'jsd(alpha=0.5, k=100)',
  'teacher.weights': 'ema',
  'teacher.rate': 0.05,
  'teacher.context': 'solution_or_feedback',
  'teacher.template': 'sdpo',
  'teacher.remove_thinking': True,
}
METHODS = {
  # arXiv:2601.20802, Table 12, without and with rich feedback.
  'sdpo': _SDPO,
  'sdpo_rich': _SDPO
  | {'algo.divergence': 'reverse(k=20)', 'teacher.rate': 0.01},
  # arXiv:2601.18734, scripts of the code: the whole vocabulary, beta = 0.5.
  'opsd': {
    'algo.distill': 'loss',
    'algo.divergence': 'jsd(alpha=0.5)',
    'teacher.weights': 'initial',
    'teacher.context': 'gold',
    'teacher.template': 'opsd',
  },
  # arXiv:2601.19897: reverse KL as in the paper; rate and skipped tokens of the
  # code (TRL has jsd(alpha=0.5, k=100) and no EMA).
  'sdft': {
    'algo.distill': 'loss(ratio_cap=2.0)',
    'algo.divergence': 'reverse',
    'teacher.weights': 'ema',
    'teacher.rate': 0.01,
    'teacher.context': 'demonstration',
    'teacher.template': 'sdft',
    'teacher.skip_tokens': 3,
  },
  # Thinking Machines 2025.
  'opd': {'algo.distill': 'advantage', 'algo.surrogate': 'reinforce'},
  # arXiv:2604.03128.
  'rlsd': {
    'algo.distill': 'reweight(mix=0.5, clip=0.2)',
    'teacher.context': 'gold',
    'teacher.template': 'opsd',
  },
  # arXiv:2605.15155, with a context of ours: its skills are of agents.
  'sdar': {
    'algo.distill': 'add(weight=0.1)',
    'algo.divergence': 'gated(beta=5.0)',
    'teacher.context': 'solution_or_feedback',
  },
  # arXiv:2605.17497: who teaches, and which row learns. Weight and divergence
  # are ours, and its weight of a prompt by its pass rate is left out.
  'ssopd': {
    'algo.distill': 'add(weight=0.1)',
    'algo.divergence': 'jsd(alpha=0.5)',
    'teacher.context': 'shortest_right',
    'teacher.rows': 'longest_wrong',
  },
  'grpo': {},
}
FORM = (
  'Work from left to right, modulo 10. Write each step on a line, such as '
  '4+3=7, and in the end #### and the results of all steps as one number.'
)


def get_config(arg: str = ''):
  arg = common.parse_arg(
    arg, method=tuple(METHODS), scale=('smollm2', 'tiny', 'qwen')
  )
  c = getattr(common, arg['scale'])()
  c.update_from_flattened_dict(METHODS[arg['method']])
  if arg['scale'] == 'qwen':
    c.train_batch_size = 32
    if arg['method'] == 'sdpo':  # the others keep 1e-6
      c.optimizer.learning_rate = 1e-5
      c.optimizer.warmup_steps = 10
    c.optimizer.weight_decay = 0.01
    c.teacher.max_context_length = 2048
    return c
  c.env = 'chain(depth=2, train_size=2000, test_size=64)'
  c.max_completion_length = 40
  c.teacher.max_context_length = 160
  c.teacher.accuracy_every = 10 if c.algo.distill else 0
  c.eval.num_tasks = 64
  if arg['scale'] == 'tiny':  # follows no instruction, guesses subtractions
    c.model.name = 'configs/base_models/chains.py'
    c.env = "chain(depth=2, ops='-', train_size=900, test_size=64)"
    c.teacher.template = 'plain'
  else:
    c.system_prompt = FORM
    c.max_prompt_length = 128
  return c

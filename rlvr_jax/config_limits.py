"""The rule of each config key: type and range, checked first of all.

Values are checked one at a time; `checks` refuses combinations that do not
work, and functions named by specs check their own options. A new key of
configs/common.py needs a rule here, which a test enforces.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rlvr_jax import annotations, registry


class Rule(NamedTuple):
  """What values a key accepts, and how an error message describes them."""

  holds: Callable[[object], bool]  # for any value, never raises
  text: str  # completes "must be ..."


def whole(low: int, high: int, *other: int) -> Rule:
  """A whole number in low..high, or one of `other`."""

  def holds(x):
    if not isinstance(x, int) or isinstance(x, bool):
      return False
    return low <= x <= high or x in other

  others = ''.join(f'{x}, or ' for x in other)
  return Rule(holds, f'{others}a whole number from {low} to {high}')


def real(low: float, high: float, *other: float, open: bool = False) -> Rule:
  """A number in [low, high], or one of `other`; with `open`, below high.

  Nonzero numbers that float32 would round to 0 are refused.
  """

  def holds(x):
    if not isinstance(x, int | float) or isinstance(x, bool):
      return False
    inside = low <= x < high or (x == high and not open)
    return x in other or (inside and (not x or abs(x) >= annotations.SMALLEST))

  others = ''.join(f'{x:g}, or ' for x in other)
  end = f'below {high:g}' if open else f'to {high:g}'
  return Rule(holds, f'{others}a number from {low:g} {end}')


def text(most: int, *, empty: bool = True) -> Rule:
  """Text of at most `most` characters that UTF-8 can encode, without NUL."""

  def holds(x):
    return annotations.is_text(x) and (0 if empty else 1) <= len(x) <= most

  limit = 'at most' if empty else 'one to'
  return Rule(holds, f'text of {limit} {most} characters, without NUL')


def choice(*words: str) -> Rule:
  """One of the given words."""
  return Rule(
    lambda x: isinstance(x, str) and x in words,
    f'one of {", ".join(map(repr, words))}',
  )


def several(rule: Rule, size: int = 0, least: int = 1) -> Rule:
  """A tuple of `size` values (0: `least` to a hundred), each under `rule`."""

  def holds(x):
    if not isinstance(x, (tuple, list)):
      return False
    fits = len(x) == size if size else least <= len(x) <= 100
    return fits and all(map(rule.holds, x))

  many = 'one or more' if least else 'any number'
  return Rule(holds, f'a tuple of {size or many}, each {rule.text}')


def _is_pattern(x) -> bool:
  if not annotations.is_text(x) or len(x) > 1000:
    return False
  try:
    re.compile(x)
  except (re.error, RecursionError, OverflowError):
    return False
  return True


FLAG = Rule(lambda x: isinstance(x, bool), 'True or False')
PATTERN = Rule(
  _is_pattern,
  "a regular expression of at most 1000 characters, such as 'layers' (a "
  'literal bracket needs a backslash before it)',
)
SPEC = text(registry.LONGEST, empty=False)
SPEC_OR_NONE = text(registry.LONGEST)
PATH = text(4096)
STEPS = whole(1, 10**9)
ROWS = whole(1, 10**6)
TOKENS = whole(1, 2**20)
TURNS = whole(1, 10_000)
WEIGHT = real(0, 1e6)
DTYPE = choice('float32', 'bfloat16')
METHODS = ('rl', 'sft', 'distill', 'rejection', 'preference', 'reward_model')

RULES = {
  'seed': whole(0, 2**32 - 1),  # jax.random.key takes 32 bits
  'total_steps': STEPS,
  'method': choice(*METHODS),
  'teacher.name': PATH,
  'teacher.weights': choice('live', 'initial', 'ema', 'trust_region'),
  'teacher.rate': real(0, 1),
  'teacher.context': SPEC,
  'teacher.template': text(100, empty=False),
  'teacher.remove_thinking': FLAG,
  'teacher.max_context_length': TOKENS,
  'teacher.rows': choice('all', 'wrong', 'longest_wrong'),
  'teacher.skip_tokens': whole(0, 2**20),
  'teacher.accuracy_every': whole(0, 10**9),
  'model.name': text(4096, empty=False),
  'model.dtype': DTYPE,
  'model.param_dtype': DTYPE,
  'model.remat': FLAG,
  'model.lora': SPEC_OR_NONE,
  'model.adapter': PATH,
  'model.attention': choice('', 'dense', 'blocked', 'splash'),
  'mesh.shape': several(whole(1, 10**6, -1), 3),
  'env': SPEC,
  'train_tasks': whole(0, 10**9),
  'task_sampling': SPEC,
  'system_prompt': text(100_000),
  'chat_template_args': text(1000),
  'reward_funcs': several(SPEC),
  'reward_weights': several(real(-1e6, 1e6)),
  'labels': PATH,
  'verify_timeout_s': real(0.01, 3600),
  'verifier.require_mark': FLAG,
  'verifier.unfinished_thought': choice('none', 'read'),
  'verifier.truncated': choice('marked', 'read'),
  'verifier.boxes': choice('last', 'agree'),
  'verifier.hedges': choice('refuse', 'first'),
  'verifier.percent': choice('either', 'strict'),
  'verifier.thousands': choice('english', 'european'),
  'verifier.semicolons': FLAG,
  'verifier.ratios': choice('written', 'scaled'),
  'verifier.domain': choice('real', 'positive', 'complex'),
  'verifier.approximate': real(0, 1, open=True),
  'train_batch_size': ROWS,
  'num_generations': ROWS,
  'max_prompt_length': TOKENS,
  'max_completion_length': TOKENS,
  # Smaller values overflow logits in float32.
  'temperature': real(0.01, 100),
  'sampling.branch': FLAG,
  'mask_truncated_completions': FLAG,
  'max_resample_batches': whole(0, 10_000),
  'min_reward_std': WEIGHT,
  'dialogue.max_turns': TURNS,
  'dialogue.max_reply_length': TOKENS,
  'dialogue.max_length': whole(0, 2**20),
  'dialogue.max_invalid_turns': whole(0, 10_000),
  'dialogue.belief': choice('', 'current', 'initial'),
  'dialogue.belief_on_win': FLAG,
  'dialogue.max_elicit_length': TOKENS,
  'dialogue.oracle': PATH,
  'dialogue.max_oracle_prompt': TOKENS,
  'dialogue.max_oracle_length': TOKENS,
  'dialogue.oracle_batch_size': ROWS,
  'judge.name': PATH,
  'judge.max_prompt_length': TOKENS,
  'judge.max_completion_length': TOKENS,
  'judge.temperature': real(0.01, 100),
  'judge.batch_size': ROWS,
  'judge.weight': real(0, 1000),
  'judge.control': SPEC_OR_NONE,
  'algo.credit': SPEC,
  'algo.turn_statistics': choice('living', 'padded'),
  'algo.estimate': SPEC,
  'algo.surrogate': SPEC,
  'algo.aggregate': SPEC,
  'algo.kl': SPEC_OR_NONE,
  'algo.beta': WEIGHT,
  'algo.entropy_coef': real(-1e6, 1e6),  # negative: an entropy penalty
  'algo.correction': SPEC_OR_NONE,
  'algo.preference': SPEC_OR_NONE,
  'algo.pairs': SPEC,
  'algo.reward_loss': SPEC_OR_NONE,
  'algo.reward_kl': SPEC_OR_NONE,
  'algo.reward_beta': WEIGHT,
  'algo.distill': SPEC_OR_NONE,
  'algo.divergence': SPEC,
  'algo.whiten': FLAG,
  'algo.value_coef': WEIGHT,
  'algo.value_clip': WEIGHT,
  'num_iterations': whole(1, 10_000),
  'optimizer.learning_rate': real(0, 1e30),
  'optimizer.value_learning_rate': real(0, 1e30),
  'optimizer.schedule': choice('constant', 'linear', 'cosine'),
  'optimizer.warmup_steps': whole(0, 10**9),
  'optimizer.b1': real(0, 1, open=True),
  'optimizer.b2': real(0, 1, open=True),
  'optimizer.eps': real(1e-30, 1),  # 0 would give 0 / 0 without gradient
  'optimizer.weight_decay': real(0, 100),
  'optimizer.max_grad_norm': WEIGHT,
  'optimizer.trainable': PATTERN,
  'groups_per_micro_batch': ROWS,
  'parts_per_group': ROWS,
  'logits_chunk': whole(1, 2**30),
  'log_every': STEPS,
  'metrics_every': STEPS,
  'positions_every': whole(0, 10**9),
  'log_to': several(choice('tensorboard', 'wandb', 'trackio'), least=0),
  'log_transcripts': whole(0, 10**6),
  'save_every': STEPS,
  'max_to_keep': whole(1, 10**6),
  'keep_best': text(200),
  'profile_steps': several(whole(0, 10**9), 2),
  'compilation_cache': text(4096, empty=False),
  'max_logp_diff': real(0, 1000),
  'max_skipped_updates': STEPS,
  'eval_every': whole(0, 10**9),
  'eval.split': text(100, empty=False),
  'eval.num_tasks': ROWS,
  'eval.samples': ROWS,
  'eval.batch_size': ROWS,
  'eval.temperature': real(0.01, 100, 0),
  'eval.top_k': whole(0, 10**9),
  'eval.top_p': real(1e-6, 1),
  'eval.branch': FLAG,
  'eval.signals': FLAG,
  'eval.max_turns': whole(0, 10_000),
}


def check(flat: Mapping) -> None:
  """Raises ValueError for values that break their key's rule.

  Keys without a rule pass.

  Args:
    flat: {'a.b': value} of a config, from `config.flatten`.

  Raises:
    ValueError: names every such key, its value (shortened) and its rule.
  """
  wrong = [
    f'{key}={registry.show(flat[key])} must be {rule.text}'
    for key, rule in RULES.items()
    if key in flat and not rule.holds(flat[key])
  ]
  if wrong:
    raise ValueError(f'Config: {"; ".join(wrong)}.')


def check_complete(flat: Mapping) -> None:
  """Raises ValueError if keys are missing, or a key has no rule."""
  for key in flat:
    group = key.rpartition('.')[0]
    if key not in RULES and group not in RULES:
      raise ValueError(
        f'The config has {registry.show(key)}, which is not a key of '
        f'configs/common.py.{registry.nearest(key, RULES)}'
      )
  lacking = [key for key in RULES if key not in flat]
  if lacking:
    raise ValueError(
      f'Config: {", ".join(lacking[:5])}{" and more" * (len(lacking) > 5)} '
      'missing; configs/common.py has every key.'
    )

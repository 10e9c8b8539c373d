"""How is a function of each kind written, and how is a bad spec repaired?"""

import ast
import inspect
import re
from collections.abc import Callable


def _modules(folder: str, names: str) -> tuple[str, ...]:
  return tuple(f'rlvr_jax.{folder}.{name}' for name in names.split())


# Every module that registers functions of a kind: a lookup imports them all.
MODULES = {
  'credit': _modules('ops', 'credit trials'),
  'estimator': _modules('ops', 'estimators estimators_batch gae trials'),
  'surrogate': _modules('ops', 'surrogate covariance trials'),
  'correction': _modules('ops', 'correction trials'),
  'aggregate': _modules('ops', 'aggregate trials'),
  'kl': _modules('ops', 'kl trials'),
  'preference': _modules('ops', 'preference trials'),
  'pairs': _modules('ops', 'preference trials'),
  'reward_loss': _modules('ops', 'reward_loss trials'),
  'reward': _modules(
    'rewards',
    'base answer_format spurious calibrated completion_length certainty '
    'dialogue_turns similarity learned judged',
  ),
  'env': _modules(
    'envs',
    'arithmetic countdown gsm8k jsonl pairs gym strategies guessing chain '
    'steps stack_programs comparisons judgment_tasks tfds folder told_chain '
    'told_programs',
  ),
  'pick': _modules('envs', 'gold_picks'),
  'divergence': _modules('ops', 'divergence'),
  'distill': _modules('ops', 'distill'),
  'context': _modules('rollouts', 'context'),
  'judge': _modules('verifiers', 'judge_formats'),
  'model': _modules('models', 'model_config presets'),
  'lora': _modules('models', 'lora'),
  'task_sampling': _modules('rollouts', 'task_sampling'),
}

# The data that a function of each kind takes, by position. All else that it
# takes is an option, and keyword-only.
FORMS = {
  'credit': ('reward', 'belief', 'turns'),
  'estimator': ('score', 'valid'),
  'surrogate': ('logp', 'logp_old', 'adv', 'mask'),
  'correction': ('logp_trainer', 'logp_sampler', 'mask'),
  'aggregate': ('x', 'mask'),
  'kl': ('logp', 'logp_ref'),
  'preference': ('chosen', 'rejected', 'ref_chosen', 'ref_rejected'),
  'pairs': ('rank', 'valid'),
  'reward_loss': ('chosen', 'rejected'),
  'divergence': (),
  'distill': (),
  'context': ('tasks', 'transcripts', 'group', 'row'),
  'reward': ('tasks', 'transcripts'),
  'env': (),
  'pick': ('value', 'record'),
  'judge': (),
  'model': (),
  'lora': (),
  'task_sampling': (),
}
# Further data, which a function gets if it has a parameter of that name.
MORE = {
  'estimator': ('length', 'greedy', 'surprise', 'mask'),
  'surrogate': ('chosen',),
  'preference': ('chosen_length', 'rejected_length'),
  'reward_loss': ('margins',),
}


def written(kind: str, name: str = '') -> str:
  """'reward(tasks, transcripts, *, option: type = default)'."""
  data = (*FORMS.get(kind, ()), '*', 'option: type = default')
  return f'{name or kind}({", ".join(data)})'


def check(kind: str, name: str, fn: Callable) -> None:
  """Raises ValueError for an option without a `*` before it.

  A spec could not set it, and data could land in it.
  """
  if kind not in FORMS:
    return
  try:
    parameters = list(inspect.signature(fn).parameters.values())
  except ValueError:  # of C code, which has none
    return
  named = [
    p.name
    for p in parameters
    if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
  ]
  options = [
    n for n in named[len(FORMS[kind]) :] if n not in MORE.get(kind, ())
  ]
  if options:
    raise ValueError(
      f'{kind} {name!r} takes {", ".join(options)} by position, where no spec '
      f'can set it: options stand after a *. Write {written(kind, name)}.'
    )


def quoted(spec: str) -> str:
  """'; text goes in quotes: ...' for an argument of `spec` that needs them."""
  for key, value in re.findall(r'(\w+)\s*=\s*([^\s,()\[\]{}\'"]+)', spec):
    if value.isidentifier():
      continue
    try:
      ast.literal_eval(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
      return f"; text goes in quotes: {key}='{value}'"
  return ''

"""Can a judge do what a config asks of it? Checks at start."""

from collections.abc import Sequence
from typing import Any

from rlvr_jax import registry
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import judged
from rlvr_jax.rollouts import judge_controls as controls
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import judgments

CHECK = 1000  # questions whose prompt is checked at start


def check_config(
  c: Any, settings: judged.Settings | None, is_dialogue: bool
) -> None:
  """ValueError that lists what a judge cannot work with; `c` is all keys."""
  j, rules = c.judge, []
  estimate = registry.get('estimator', c.algo.estimate)

  def rule(holds, text):
    if not holds:
      rules.append(text)

  control = controls.of(j.control)
  if settings is None:
    for key, value in (('name', j.name), ('control', j.control)):
      rule(
        not value,
        f'judge.{key}={registry.show(value)} is read by the reward judge(...) '
        f"alone: put it into reward_funcs, or set judge.{key}=''",
      )
  else:
    noisy = isinstance(control, controls.Noisy)
    rule(
      not (noisy and j.name),
      f'judge.control={registry.show(j.control)} asks no model: set judge.name='
      f'{registry.show(j.name)} to ""',
    )
    rule(
      j.name or noisy,
      'the reward judge(...) needs judge.name, a model, or '
      "judge.name='policy' for the policy itself",
    )
    rule(
      c.method == 'rl' and not is_dialogue,
      f'the reward judge(...) works on single answers of method="rl": '
      f'method={registry.show(c.method)}, env={registry.show(c.env)}',
    )
    rule(
      c.num_generations > 1 or settings.compare == 'pointwise',
      f'num_generations={c.num_generations}: judge(compare='
      f'{settings.compare}) compares the members of a group, so 2 or more',
    )
    rule(
      'greedy' not in estimators.takes(estimate),
      f'algo.estimate={registry.show(c.algo.estimate)}: nothing compares the '
      'greedy completion. Take another estimator',
    )
    rule(
      settings.compare != 'pointwise' or not j.control,
      f'judge.control={registry.show(j.control)} is of verdicts on two answers: '
      'set it to "" with compare=pointwise',
    )
  if j.weight:
    rule(
      j.name == 'policy' and settings and settings.compare == 'pairwise',
      f'judge.weight={j.weight} trains judgments: of judge.name=policy, by '
      'judge(compare=pairwise)',
    )
    rule(
      j.temperature == c.temperature,
      f'judge.temperature={j.temperature} must be temperature={c.temperature} '
      'with judge.weight: trained log-probs have one temperature',
    )
    beside = {
      'algo.beta': c.algo.beta,
      'algo.correction': c.algo.correction,
      'algo.distill': c.algo.distill,
      'algo.preference': c.algo.preference,
      'max_resample_batches': c.max_resample_batches,
    }
    for key, value in beside.items():
      rule(
        not value,
        f'{key}={registry.show(value)} is not made for judge.weight > 0, which '
        'trains two sorts of rows: leave it out, as SERL does',
      )
    rule(
      registry.parse(c.algo.estimate)[0] != 'gae',
      f'algo.estimate={registry.show(c.algo.estimate)}: a critic has no values '
      'of judgments. Take an estimator of groups with judge.weight > 0',
    )
  if rules:
    raise ValueError(f'Config: {"; ".join(rules)}.')


def check_prompts(
  c: Any,
  settings: judged.Settings,
  tasks: Sequence[Task],
  tokenizer: Tokenizer,
) -> None:
  """ValueError for a question that the judge could never be asked about.

  Nothing is checked where a control asks no model.

  Args:
    c: the section `judge` of a config.
    tasks: of training; the first `CHECK` of them are looked at.
    tokenizer: of the judge.
  """
  if isinstance(controls.of(c.control), controls.Noisy):
    return
  judge = judgments.format_of(settings.format)
  n = 1 if settings.compare == 'pointwise' else 2
  for task in (tasks[i] for i in range(min(len(tasks), CHECK))):
    ids = tokenizer.encode_messages(judge.prompt(task.question, [''] * n))
    if len(ids) >= c.max_prompt_length:
      raise ValueError(
        f'The prompt that asks the judge about task {task.id!r} has {len(ids)} '
        'tokens before any response; judge.max_prompt_length is '
        f'{c.max_prompt_length}. Raise it, or take a shorter format.'
      )

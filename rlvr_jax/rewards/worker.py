"""What runs in a worker process of `pool`: checks that can hang or crash.

Speaks lines of JSON on its standard input and output (never pickles: a
checker fed with model text has no say over the parent). Imports the slow
checkers only when told to warm up.
"""

import faulthandler
import functools
import importlib
import json
import os
import signal
import sys

ORPHAN_S = 10.0  # past its limit, a worker without a parent ends itself


def main() -> None:
  """Serves requests until the input ends. argv[2]: bytes of memory."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
  _limit(int(sys.argv[2]))
  sys.setrecursionlimit(3000)
  # Libraries may print: keep the channel to ourselves.
  requests = os.fdopen(os.dup(0), 'rb')
  replies = os.fdopen(os.dup(1), 'w', encoding='ascii')
  null = os.open(os.devnull, os.O_RDWR)
  for fd in (0, 1, 2):
    os.dup2(null, fd)
  for line in requests:
    kind, payload, timeout_s = json.loads(line)
    kind, _, of = kind.partition(':')
    # A thread in C, which ends the process even where Python is stuck, in
    # case the parent is no longer there to do it.
    faulthandler.dump_traceback_later(
      timeout_s + ORPHAN_S, exit=True, file=null
    )
    try:
      warm, check = KINDS[kind]
      reply = {'value': warm(of) if payload is None else check(**payload)}
    except BaseException as e:  # also MemoryError, RecursionError, SystemExit
      reply = {'failure': f'{type(e).__name__}: {str(e)[:200]}'}
    faulthandler.cancel_dump_traceback_later()
    replies.write(json.dumps(reply) + '\n')
    replies.flush()


def check_math(gold: str, answer: str | None) -> str:
  """'correct', 'wrong', 'bad gold' or 'unreadable', by math-verify.

  Without an answer it only says whether the gold can be read ('correct').
  Both are LaTeX: the path of math-verify that evaluates Python expressions
  (sympy's parse_expr) is not used.
  """
  gold_parsed = _parse(gold)
  if not gold_parsed:
    return 'bad gold'
  if answer is None:
    return 'correct'
  parsed = _parse(answer)
  if not parsed:
    return 'unreadable'
  verify = importlib.import_module('math_verify').verify
  # The order matters: gold first. The pool keeps the time.
  same = verify(
    list(gold_parsed), list(parsed), timeout_seconds=None, raise_on_error=True
  )
  return 'correct' if same else 'wrong'


def check_gym(dataset: str, entry: dict, answer: str) -> float:
  """The score that reasoning-gym's own scorer of `dataset` gives."""
  return float(_scorer(dataset)(answer, entry))


def _warm_math(_: str) -> str:
  return check_math('\\frac{x}{2}', '0.5x')


def _warm_gym(dataset: str) -> None:
  _scorer(dataset)


def check_similarity(prediction: str, expert: str, **options) -> float:
  """`similarity.ratio`."""
  module = importlib.import_module('rlvr_jax.rewards.similarity')
  return module.ratio(prediction, expert, **options)


def render_template(**payload) -> dict:
  """`chat.render_here`."""
  return importlib.import_module('rlvr_jax.text.chat').render_here(**payload)


KINDS = {
  'math': (_warm_math, check_math),
  'gym': (_warm_gym, check_gym),
  'template': (
    # One that fails, so that what jinja2 imports for errors is there.
    lambda _: render_template(
      template='{{ x.y.z }}', variables={}, today='2024-01-01', options=[]
    ),
    render_template,
  ),
  'similarity': (lambda _: check_similarity('a', 'b'), check_similarity),
}


@functools.lru_cache(maxsize=512)
def _parse(latex: str) -> tuple:
  module = importlib.import_module('math_verify')
  return tuple(
    module.parse(
      f'${latex}$',
      extraction_config=[module.LatexExtractionConfig()],
      fallback_mode='no_fallback',
      parsing_timeout=None,
      raise_on_error=True,
    )
  )


@functools.lru_cache(maxsize=128)
def _scorer(dataset: str):
  gym = importlib.import_module('reasoning_gym')
  return gym.create_dataset(dataset, size=1, seed=0).score_answer


def _limit(memory: int) -> None:
  try:
    import resource
  except ImportError:  # Windows
    return
  for what, limit in (
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_CORE, 0),
  ):
    try:
      hard = resource.getrlimit(what)[1]
      if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
      resource.setrlimit(what, (limit, limit))
    except (ValueError, OSError):  # macOS does not limit address space
      pass

"""Renders chat messages by a model's chat template, in a sandbox.

Templates come with downloaded models and are programs. They run in jinja2's
immutable sandbox (no attributes that start with '_', no changes to their
variables). Every rendering, compilation included, runs in a worker process of
`verifiers.pool`, which is killed at its limits of time and memory: no template
can stop a run or exhaust its memory. The sandbox also refuses known ways to
exhaust them (ranges, products, powers, padding, output), because an error that
names the cause is better than a timeout.
"""

import ast
import datetime
import functools
import itertools
import json
from collections.abc import Callable

import jinja2
from jinja2 import ext as jinja2_ext
from jinja2 import meta, nodes, sandbox

from rlvr_jax import registry
from rlvr_jax.verifiers import pool

# For models that bring no template.
CHATML = (
  '{% for message in messages %}'
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
  "+ '<|im_end|>' + '\\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# For base models in a single file, which has no room for one beside it: texts,
# a line each, after the start token.
PLAIN = (
  "{{ bos_token }}{% for message in messages %}{{ message['content'] "
  "+ (eos_token if message['role'] == 'assistant' else '\n') }}{% endfor %}"
)

# The date that templates see; Llama 3's template falls back on it. If prompts
# changed with the calendar, runs could not be resumed or compared.
TODAY = datetime.date(2024, 7, 26)

LIMIT_S = 3.0  # seconds of one rendering
_MAX_TEMPLATE = 100_000  # characters
_MAX_OUTPUT = 4_000_000  # characters
_MAX_ARGUMENTS = 1000  # characters of chat_template_args
_MAX_ERROR = 400  # characters
_MAX_ITEMS = 100_000  # of all ranges of a rendering, and of a repeated value
_TOO_LARGE = 'it takes more memory than a template may'
_PADDING = frozenset(
  {'center', 'expandtabs', 'format', 'format_map', 'ljust', 'rjust', 'zfill'}
)
# Variables and functions that every template has.
_GIVEN = {
  'messages',
  'add_generation_prompt',
  'bos_token',
  'eos_token',
  'tools',
  'documents',
  'range',
  'strftime_now',
  'raise_exception',
  'namespace',
}
_NO_FILTERS = ('center', 'format', 'indent', 'random', 'wordwrap', 'pprint')


def messages(question: str, system: str = '') -> list[dict]:
  """A question as messages, with a system message if `system` is not empty.

  Without one, some templates (SmolLM2's, Qwen2.5's) add their own default.
  """
  out = [{'role': 'system', 'content': system}] if system else []
  return out + [{'role': 'user', 'content': question}]


def arguments(text: str) -> dict:
  """Parses 'enable_thinking=False, level="low"' to a dict of literals.

  `true`, `false` and `none` mean what they mean in jinja2.

  Raises:
    ValueError: another form, a value that is not a literal, or a name that
      every template has already.
  """
  names = {'true': True, 'false': False, 'none': None}
  out = {}
  try:
    if len(text) > _MAX_ARGUMENTS:
      raise ValueError(f'longer than {_MAX_ARGUMENTS} characters')
    call = ast.parse(f'_({text})', mode='eval').body
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    if not named or call.args:
      raise ValueError('no name=value')
    for k in call.keywords:
      value = k.value
      bare = isinstance(value, ast.Name) and value.id.lower()
      if k.arg is None or (bare and bare not in names):
        raise ValueError(f'{k.arg}: a string needs quotes')
      if k.arg in out:
        raise ValueError(f'{k.arg} is given twice')
      out[k.arg] = names[bare] if bare else ast.literal_eval(value)
    json.dumps(out, ensure_ascii=False, allow_nan=False).encode()
  except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as e:
    raise ValueError(
      f'chat_template_args={text[:80]!r} ({str(e)[:80]}): write '
      "'name=value, ...' with numbers, quoted strings, True, False or None."
    ) from e
  if own := [k for k in out if k in _GIVEN]:
    raise ValueError(
      f'chat_template_args={text[:80]!r} sets {own[0]}, which is set for every '
      'template: leave it out.'
    )
  return out


def render(
  template: str,
  messages: list[dict],
  *,
  add_generation_prompt: bool,
  bos_token: str = '',
  eos_token: str = '',
  today: datetime.date = TODAY,
  options: dict | None = None,
) -> str:
  """The text of `messages` in a jinja2 chat template of a Hugging Face model.

  The environment is that of transformers: trim_blocks and lstrip_blocks,
  `break` and `continue`, `generation` blocks, `raise_exception`,
  `strftime_now` (of `today`), a `tojson` that does not escape HTML; `tools`
  and `documents` are None.

  Args:
    template: the template's source.
    messages: dicts with 'role' and 'content', both strings.
    add_generation_prompt: ends with the start of an assistant message.
    bos_token: text of the token that starts a sequence.
    eos_token: text of the token that ends one.
    today: the date for templates that state one.
    options: further variables of the template, such as enable_thinking.

  Raises:
    ValueError: the template does not parse, raises an exception, does what the
      sandbox refuses, exceeds a limit, or does not read one of `options`; or a
      malformed message.
  """
  for i, message in enumerate(messages):
    for key in 'role', 'content':
      if not isinstance(message.get(key), str):
        raise ValueError(
          f'Message {i} has {key}={message.get(key)!r:.60}, which must be a '
          f"string: write {{'role': 'user', 'content': '...'}}."
        )
  payload = {
    'template': template,
    'variables': (options or {})
    | {
      'messages': messages,
      'add_generation_prompt': add_generation_prompt,
      'bos_token': bos_token,
      'eos_token': eos_token,
    },
    'today': today.isoformat(),
    'options': list(options or {}),
  }
  reply = pool.run('template', [payload], timeout_s=LIMIT_S)[0]
  if reply.failure is None and 'text' in reply.value:
    return reply.value['text']
  why = {
    None: reply.value and reply.value.get('error'),
    'timeout': f': it takes longer than {LIMIT_S:g} s',
    'died': f': {_TOO_LARGE}, or crashes',
  }.get(reply.failure, f': {reply.failure}')
  raise ValueError(
    f'Chat template fails{why}. It begins {template[:60]!r}. Give messages '
    'that it takes, or another template, such as rlvr_jax.io.chat_template.CHATML.'
  )


def render_here(
  template: str, variables: dict, today: str, options: list[str]
) -> dict:
  """The worker's part of `render`: {'text': ...} or {'error': reason}."""
  day = datetime.date.fromisoformat(today)
  try:
    compiled, reads = _compile(template)
    if unread := [k for k in options if k not in reads]:
      given = sorted(reads - _GIVEN)
      raise ValueError(
        f'it does not read {unread[0]!r}, which chat_template_args sets.'
        f'{registry.nearest(unread[0], given)} It reads: '
        f'{", ".join(given) or "nothing of the kind"}'
      )
    chunks = compiled.generate(
      **variables,
      tools=None,
      documents=None,
      range=_ranges(),
      strftime_now=lambda form: day.strftime(form[:200]),
    )
    out, size = [], 0
    for chunk in chunks:
      size += len(chunk)
      if size > _MAX_OUTPUT:
        raise ValueError(f'its output exceeds {_MAX_OUTPUT} characters')
      out.append(chunk)
    return {'text': ''.join(out)}
  except Exception as e:  # a template may raise anything
    where = f' (line {e.lineno})' if hasattr(e, 'lineno') else ''
    text = ' '.join(f'{type(e).__name__}: {e}'.split())
    text = _TOO_LARGE if isinstance(e, MemoryError) else text[:_MAX_ERROR]
    return {'error': f'{where}: {text}'}


class _Generation(jinja2_ext.Extension):
  """`{% generation %}...{% endgeneration %}`, rendered as its body.

  Templates mark the assistant's text with it, for loss masks; here masks come
  from the sampled tokens.
  """

  tags = frozenset({'generation'})

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return nodes.Scope(body, lineno=line)


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
  """Refuses operations that make huge values in small templates."""

  intercepted_binops = frozenset({'*', '**', '%'})

  def call_binop(self, context, operator, left, right):
    if operator == '*':
      for a, b in (left, right), (right, left):
        if isinstance(a, (str, list, tuple)) and (
          isinstance(b, int) and len(a) * b > _MAX_ITEMS
        ):
          raise sandbox.SecurityError(f'a value repeated {b} times')
      if all(isinstance(x, int) and abs(x) > 2**64 for x in (left, right)):
        raise sandbox.SecurityError('a product of huge numbers')
    if operator == '**' and (abs(left) > 10_000 or abs(right) > 16):
      raise sandbox.SecurityError(f'the power {left} ** {right}')
    if operator == '%' and isinstance(left, str):
      raise sandbox.SecurityError("'%' formatting")
    return super().call_binop(context, operator, left, right)

  def wrap_str_format(self, value):
    return None  # is_safe_attribute refuses str.format

  def is_safe_attribute(self, obj, attr, value):
    return not (
      isinstance(obj, str) and attr in _PADDING
    ) and super().is_safe_attribute(obj, attr, value)


def _ranges() -> Callable[..., list[int]]:
  """A `range` for one rendering; all its calls share the limit on items."""
  used = itertools.count()

  def counted(values):
    for value in values:
      if next(used) >= _MAX_ITEMS:
        raise sandbox.SecurityError(f'its ranges exceed {_MAX_ITEMS} items')
      yield value

  def limited(*args):
    return list(counted(range(*args)))

  return limited


def _raise(message):
  raise jinja2.TemplateError(str(message))


def _tojson(
  value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
):
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> tuple[jinja2.Template, set[str]]:
  """The compiled template, and the variables that it reads."""
  if len(template) > _MAX_TEMPLATE:
    raise ValueError(f'it is longer than {_MAX_TEMPLATE} characters')
  env = _Sandbox(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2_ext.loopcontrols],
  )
  for name in _NO_FILTERS:
    del env.filters[name]
  env.filters['tojson'] = _tojson
  env.globals = {
    'namespace': env.globals['namespace'],
    'raise_exception': _raise,
  }
  reads = meta.find_undeclared_variables(env.parse(template))
  return env.from_string(template), reads

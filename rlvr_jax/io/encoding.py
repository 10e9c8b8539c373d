"""Text to tokens and back.

Users' questions and models' answers are untrusted: text that spells a control
token, such as '<|im_end|>', is encoded as the characters that it is. Only the
chat template's own markers become control tokens, whether or not the
vocabulary calls them special.
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

MARK = '\ufffd'  # stands for what has no text
# Added tokens of this form that are not special are words, not markers.
_WORD = re.compile(r'[\w\s\u2581]+')


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
    self.backend.encode_special_tokens = True  # as text, that is

  def with_options(self, text: str) -> 'Tokenizer':
    """The same, whose template also gets `text`: see `chat_template.arguments`.

    Raises:
      ValueError: as `chat_template.arguments`, or a variable that the chat template
        does not read.
    """
    if not text:
      return self
    new = dataclasses.replace(self, options=chat_template.arguments(text))
    new.check_template()
    return new

  @functools.cached_property
  def vocab_size(self) -> int:
    """One more than the largest id."""
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  @functools.cached_property
  def specials(self) -> dict[str, int]:
    """Control tokens and their ids."""
    added = self.backend.get_added_tokens_decoder().items()
    return {token.content: i for i, token in added if token.special}

  @functools.cached_property
  def added(self) -> dict[str, int]:
    """Tokens that no text of a user may become, and their ids: the special
    ones, and markers that are not called so, such as R1's <|Assistant|> and
    Qwen3's <think>."""
    added = self.backend.get_added_tokens_decoder().items()
    return {
      token.content: i
      for i, token in added
      if token.special or not _WORD.fullmatch(token.content)
    }

  @functools.cached_property
  def end_id(self) -> int:
    """The end token of what the policy says: the one that the chat template
    writes after an assistant's message, else the first of `end_ids`."""
    end = self.check_template().end if self.chat_template else None
    return self.end_ids[0] if end is None else end

  @functools.cached_property
  def prefill(self) -> str:
    """The thought that the chat template opens, '<think>\\n'; '' for none."""
    return self.check_template().prefill if self.chat_template else ''

  def must_fit(self, embeddings: int, source: str):
    """ValueError if the model of `source` has fewer embeddings than tokens."""
    if self.vocab_size > embeddings:
      raise ValueError(
        f'{source}: the tokenizer has {self.vocab_size} tokens, the model '
        f'{embeddings} embeddings. They do not belong together.'
      )

  def encode(self, text: str) -> list[int]:
    """Ids of plain text: no control tokens, whatever the text spells."""
    return self._ids(text, self._first)

  def encode_answer(self, text: str) -> list[int]:
    """Ids of what the policy is to say after a prompt, its end token too.

    Markers such as <think> that its vocabulary has, and that stand around no
    message, are the tokens that it would sample.
    """
    around = self.check_template().around if self.chat_template else ()
    out = {*self.specials, *around}
    pattern = chat_frames.any_of(t for t in self.added if t not in out)
    return [*self._pieces(text, pattern, ''), self.end_id]

  def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
    """Text of ids, so that nothing reads across what has none.

    U+FFFD stands in the place of special tokens, but for the end token that
    ends the ids (without `skip_special`, all are as they are spelled); of ids
    that the vocabulary lacks (a model's matrix is often padded) or spells with
    nothing; of bytes that are no UTF-8.

    Raises:
      ValueError: a negative id.
    """
    ids = [int(i) for i in ids]
    if ids and min(ids) < 0:
      raise ValueError(f'Token id {min(ids)} is negative.')
    if skip_special and ids and ids[-1] in self.end_ids:
      ids.pop()
    size, special = self.vocab_size, set(self.specials.values())
    dumb = lambda i: i >= size or (i in special and skip_special)
    tokens = [None if dumb(i) else self.backend.id_to_token(i) for i in ids]
    tokens = [token or MARK for token in tokens]
    decoder = self.backend.decoder
    with vocabulary.reading('The decoder of the tokenizer'):
      return decoder.decode(tokens) if decoder else ' '.join(tokens)

  def encode_chat(self, question: str, system: str = '') -> list[int]:
    """Ids of a prompt: the question in the chat template, ready to answer."""
    return self.encode_messages(chat_template.messages(question, system))

  def encode_messages(
    self, messages: Sequence[dict], *, add_generation_prompt: bool = True
  ) -> list[int]:
    """Ids of messages in the chat template.

    Control tokens come from the template alone; contents are plain text.

    Args:
      messages: dicts with 'role' and 'content'.
      add_generation_prompt: ends with the start of an assistant message.

    Raises:
      ValueError: no chat template, or one that fails on these messages or
        leaves out what the user or the system says.
    """
    drops_system = self.check_template().drops_system
    text, guard = self._render(messages, add_generation_prompt)
    for m in messages:
      kept = {
        'user': self._guarded(m['content'], guard).strip() in text,
        'system': not drops_system,
      }.get(m['role'], True)
      if not kept:
        raise ValueError(
          f"The chat template leaves out or changes the {m['role']}'s message "
          f'{m["content"][:60]!r}. Give another template, such as '
          'rlvr_jax.io.chat_template.CHATML.'
        )
    return self._split(text, guard, self._first)

  def check_template(self) -> chat_frames.Frame:
    """What the chat template does, tried once.

    Raises:
      ValueError: no chat template, one that fails on a question, or drops it.
    """
    return self._frame

  def encode_reply(self, reply: str, ended: bool) -> list[int]:
    """Ids between a message of the policy and its next one.

    They end the policy's message (unless it `ended` itself, by an end token),
    say `reply` as the user, and begin the next message. Earlier tokens stay as
    they were sampled: nothing is encoded again.

    Raises:
      ValueError: no chat template, or one that does not close an assistant's
        message by an end token right after it.
    """
    messages = [
      *chat_template.messages(chat_frames.ASKED),
      {'role': 'assistant', 'content': chat_frames.SAID},
      {'role': 'user', 'content': reply},
    ]
    self.check_template()
    text, guard = self._render(messages, add_generation_prompt=True)
    _, found, rest = text.partition(chat_frames.SAID)
    if self._guarded(reply, guard).strip() not in rest:
      raise ValueError(
        f"The chat template leaves out or changes the user's message "
        f'{reply[:60]!r}, a reply.'
      )
    ids = self._split(rest, guard)
    if not found or not ids or ids[0] not in self.end_ids:
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
    """Ids of before + text + after, and which of them hold some of `text`.

    The whole is encoded at once, as it would be if it were said, so a token
    may belong to `text` and to a space or quote before it too.
    """
    whole = before + text + after
    with vocabulary.reading(f'The text {whole[:60]!r}'):
      found = self._later.encode(whole, add_special_tokens=False)
    low, high = len(before), len(before) + len(text)
    inside = [a < high and b > low for a, b in found.offsets]
    return found.ids, inside

  def _render(self, messages, add_generation_prompt) -> tuple[str, str]:
    """Text of messages, and the character that marks what is no control
    token: it stands after the first letter of each that a content spells."""
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
  def _meant(self) -> re.Pattern:
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
    """The backend for text at the start of a sequence: no added token but
    words is found in it."""
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

    They differ where the vocabulary puts a space before the first word
    (Metaspace, prepend_scheme 'first'), of the whole sequence that is.
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
    """Ids that stand for characters which the vocabulary lacks."""
    with vocabulary.reading('The tokenizer'):
      return set(self._first.encode('\U0010fffd', add_special_tokens=False).ids)

  def _ids(self, text: str, backend=None) -> list[int]:
    """Ids of text that has no control tokens, after others by default.

    A vocabulary can hold the spelling of a control token as a word: it is then
    cut after its first character.
    """
    backend, forbidden = backend or self._later, set(self.added.values())
    forbidden -= self._unknown
    cuts = [m.start() + 1 for m in self._control.finditer(text)]
    for at in ([], cuts, range(1, len(text))):
      bounds = [0, *at, len(text)]
      ids = []
      for a, b in itertools.pairwise(bounds):
        with vocabulary.reading(f'The text {text[a:b][:60]!r}'):
          of = self._later if a else backend
          ids += of.encode(text[a:b], add_special_tokens=False).ids
      if forbidden.isdisjoint(ids):
        return ids
    raise ValueError(
      f'The text {text[:60]!r} holds a character that is a control token of '
      'this vocabulary: take it out.'
    )

  def _split(self, text: str, guard: str, first=None) -> list[int]:
    """Ids of text whose control tokens are meant, but for marked ones.

    Args:
      first: the backend of what stands at the very start.
    """
    return self._pieces(text, self._meant, guard, first)

  def _pieces(self, text, pattern, guard, first=None) -> list[int]:
    ids, at = [], 0
    for match in pattern.finditer(text):
      if guard and text.startswith(guard, match.end()):
        continue  # a token of a single letter, spelled by a content
      ids += self._piece(text[at : match.start()], guard, at, first)
      found = match[0] if match[0] in self.added else match[0].strip()
      ids.append(self.added[found])
      at = match.end()
    return ids + self._piece(text[at:], guard, at, first)

  def _piece(self, text, guard, at, first) -> list[int]:
    text = text.replace(guard, '') if guard else text
    return self._ids(text, None if at else first) if text else []

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


def _special(text: str) -> tokenizers.AddedToken:
  return tokenizers.AddedToken(text, special=True, normalized=False)

"""Reads vocabularies: of tokenizer.json, of GGUF metadata, or of bytes.

They are objects of the `tokenizers` package. Files are untrusted.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from rlvr_jax.io.safetensors import read_text

_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
  """Turns any exception of the `tokenizers` package into a ValueError.

  The package raises plain Exceptions, and a BaseException if its Rust code
  panics.

  Args:
    what: what is read, for the message.
  """
  try:
    yield
  except (KeyboardInterrupt, SystemExit, GeneratorExit):
    raise
  except BaseException as e:
    raise ValueError(
      f'{what} cannot be read ({str(e)[:200]}): it is damaged, or not supported '
      f'by tokenizers {tokenizers.__version__}.'
    ) from e


def of_folder(folder: pathlib.Path) -> tokenizers.Tokenizer:
  """The vocabulary of tokenizer.json.

  Raises:
    ValueError: it is absent, corrupt or empty.
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
  with reading(str(path)):
    backend = tokenizers.Tokenizer.from_str(read_text(path))
    tokens = backend.get_vocab(with_added_tokens=True)
  if not tokens or len(set(tokens.values())) < len(tokens):
    what = 'two tokens of one id' if tokens else 'no tokens'
    raise ValueError(f'{path} has {what}: download it again.')
  if getattr(backend.model, 'dropout', None):
    backend.model.dropout = None  # a prompt is a function of its text
  return backend


def of_gguf(meta: dict, source: str) -> tokenizers.Tokenizer:
  """The byte-level BPE ('gpt2') of GGUF metadata.

  Raises:
    ValueError: another kind of vocabulary or of splitting, keys that are
      missing or have values of a wrong type.
  """
  kind, pre = meta.get('tokenizer.ggml.model'), meta.get('tokenizer.ggml.pre')
  if kind != 'gpt2' or not isinstance(pre, str) or pre not in PRE:
    raise ValueError(
      f'{source} has tokenizer {kind!r:.60} with splitting {pre!r:.60}; GGUF '
      f"tokenizers are read for 'gpt2' with {', '.join(PRE)}. Use the model's "
      'Hugging Face folder.'
    )
  keys = [f'tokenizer.ggml.{k}' for k in ('tokens', 'token_type', 'merges')]
  if lacking := [k for k in keys if k not in meta]:
    raise ValueError(f'{source} lacks {", ".join(lacking)}.')
  tokens, types, merges = (meta[k] for k in keys)
  for key, item_type in zip(keys, (str, int, str), strict=True):
    _check_list(item_type, meta[key], f'{source}: {key}')
  if len(tokens) != len(types):
    raise ValueError(
      f'{source} has {len(tokens)} tokens and {len(types)} token types.'
    )
  normalizer, splits, ignore_merges = PRE[pre]
  with reading(f'{source}: its tokenizer'):
    backend = tokenizers.Tokenizer(
      models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(m.split(' ')) for m in merges],
        ignore_merges=ignore_merges,
      )
    )
  if normalizer is not None:
    backend.normalizer = normalizer
  backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
  backend.decoder = decoders.ByteLevel()
  for number, special in ((3, True), (4, False)):  # control, user-defined
    added = [
      tokenizers.AddedToken(t, special=special, normalized=False)
      for t, token_type in zip(tokens, types, strict=True)
      if token_type == number
    ]
    (backend.add_special_tokens if special else backend.add_tokens)(added)
  return backend


def of_bytes(specials: list[str]) -> tokenizers.Tokenizer:
  """256 tokens, the id of each is its byte, then `specials`."""
  # The package represents byte b by a printable character: itself if it is
  # printable; the others, in order, from U+0100 on.
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  chars = {b: chr(b) for b in printable}
  chars |= {b: chr(256 + i) for i, b in enumerate(others)}
  vocab = {char: b for b, char in chars.items()}
  backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
  backend.pre_tokenizer = _bytes(use_regex=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens(
    [tokenizers.AddedToken(t, special=True, normalized=False) for t in specials]
  )
  return backend


def _check_list(item_type: type, values, what: str) -> None:
  """ValueError unless `values` is a list of `item_type`."""
  if not isinstance(values, list) or any(
    type(v) is not item_type for v in values
  ):
    raise ValueError(f'{what} is no list of {item_type.__name__}.')


def _bytes(use_regex: bool) -> pre_tokenizers.ByteLevel:
  return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split(digits: str) -> list[pre_tokenizers.PreTokenizer]:
  pattern = tokenizers.Regex(_WORDS.replace('DIGITS', digits))
  return [pre_tokenizers.Split(pattern, 'isolated'), _bytes(False)]


# Name of a pre-tokenizer in GGUF files -> normalizer, pre-tokenizers, and
# `ignore_merges` of the package.
PRE = {
  'smollm': (
    None,
    [pre_tokenizers.Digits(individual_digits=True), _bytes(True)],
    False,
  ),
  'qwen2': (normalizers.NFC(), _split(''), False),
  'llama-bpe': (None, _split('{1,3}'), True),
}

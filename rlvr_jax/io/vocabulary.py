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
  """The tokens of GGUF metadata: byte-level BPE, or sentencepiece's ('llama').

  Raises:
    ValueError: another kind of vocabulary or of splitting, keys that are
      missing or have values of a wrong type.
  """
  kind, pre = meta.get('tokenizer.ggml.model'), meta.get('tokenizer.ggml.pre')
  if kind == 'llama':
    return _of_scores(meta, source)
  if kind != 'gpt2' or not isinstance(pre, str) or pre not in PRE:
    raise ValueError(
      f'{source} has tokenizer {kind!r:.60} with splitting {pre!r:.60}; GGUF '
      f"tokenizers are read for 'llama', and for 'gpt2' with {', '.join(PRE)}. Use the model's "
      'Hugging Face folder.'
    )
  tokens, types, merges = _lists(
    meta, source, tokens=str, token_type=int, merges=str
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
  _add(backend, tokens, types)
  return backend


def _of_scores(meta: dict, source: str) -> tokenizers.Tokenizer:
  """A sentencepiece BPE, of tokens with scores and without merges (Gemma).

  A pair of tokens merges if their concatenation is one; those with the highest
  score first, and of equal ones the longer left part (as `transformers`
  converts them). Spaces are '▁'; characters without a token become bytes.
  """
  tokens, types, scores = _lists(
    meta, source, tokens=str, token_type=int, scores=float
  )
  if len(scores) != len(tokens):
    raise ValueError(
      f'{source} has {len(tokens)} tokens and {len(scores)} scores.'
    )
  if meta.get('tokenizer.ggml.add_space_prefix', True):
    raise ValueError(
      f'{source} has a tokenizer that writes a space before every text, which '
      "is not supported in GGUF files: use the model's Hugging Face folder."
    )
  vocab = {token: i for i, token in enumerate(tokens)}
  plain = {t for t, kind in zip(tokens, types, strict=True) if kind == 1}
  merges = []
  for token in plain:
    score = scores[vocab[token]]
    for i in range(1, len(token)):
      left, right = token[:i], token[i:]
      if left in plain and right in plain:
        merges.append((-score, -i, left, right))
  merges.sort()
  unknown = meta.get('tokenizer.ggml.unknown_token_id')
  if type(unknown) is not int or not 0 <= unknown < len(tokens):
    raise ValueError(
      f'{source} has tokenizer.ggml.unknown_token_id={unknown!r:.60}, which '
      'must be the number of a token.'
    )
  with reading(f'{source}: its tokenizer'):
    backend = tokenizers.Tokenizer(
      models.BPE(
        vocab=vocab,
        merges=[(left, right) for *_, left, right in merges],
        unk_token=tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
      )
    )
  backend.normalizer = normalizers.Replace(' ', '▁')
  backend.decoder = decoders.Sequence(
    [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]
  )
  _add(backend, tokens, types)
  return backend


def _lists(meta: dict, source: str, **kinds: type) -> list[list]:
  """The lists of metadata with these names. ValueError for other values."""
  keys = {f'tokenizer.ggml.{name}': kind for name, kind in kinds.items()}
  if lacking := [k for k in keys if k not in meta]:
    raise ValueError(f'{source} lacks {", ".join(lacking)}.')
  for key, kind in keys.items():
    _check_list(kind, meta[key], f'{source}: {key}')
  tokens, types = (
    meta[f'tokenizer.ggml.{k}'] for k in ('tokens', 'token_type')
  )
  if len(tokens) != len(types):
    raise ValueError(
      f'{source} has {len(tokens)} tokens and {len(types)} token types.'
    )
  return [meta[key] for key in keys]


def _add(backend: tokenizers.Tokenizer, tokens: list, types: list) -> None:
  """Makes tokens that texts are split at of those that the types say are."""
  for number, special in ((3, True), (4, False)):  # control, user-defined
    added = [
      tokenizers.AddedToken(t, special=special, normalized=False)
      for t, token_type in zip(tokens, types, strict=True)
      if token_type == number
    ]
    (backend.add_special_tokens if special else backend.add_tokens)(added)


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

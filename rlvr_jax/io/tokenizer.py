"""Opens the tokenizer of a model folder or GGUF file, or the byte-level one."""

import dataclasses
import pathlib

from rlvr_jax.io import chat_template, vocabulary
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.io.safetensors import read_json, read_text

# End tokens of messages that chat models sample even if eos is another one.
_MESSAGE_ENDS = ('<|im_end|>', '<|eot_id|>')


def from_folder(folder: pathlib.Path) -> Tokenizer:
  """The tokenizer of a Hugging Face folder.

  Reads tokenizer.json and, if they exist, chat_template.jinja and the files
  that name end tokens: tokenizer_config.json, generation_config.json and
  config.json.

  Raises:
    ValueError: no tokenizer.json, a corrupt one, values of a wrong type, a
      named token that is not in it, or no token that ends a completion.
  """
  backend = vocabulary.of_folder(folder)
  config, generation, model = (
    read_json(folder / f) if (folder / f).exists() else {}
    for f in ('tokenizer_config.json', 'generation_config.json', 'config.json')
  )
  path = folder / 'tokenizer_config.json'

  def named(key):
    token = config.get(key)
    if token is None:
      return []
    if isinstance(token, dict):
      token = token.get('content')
    token = _text(token, f'{path}: {key}')
    i = backend.token_to_id(token)
    if i is None:
      raise ValueError(
        f'{folder}: {key} {token!r:.60} is not in tokenizer.json.'
      )
    return [i]

  def listed(source, key):
    ids = source.get(key)
    return [] if ids is None else ids if isinstance(ids, list) else [ids]

  eos = listed(generation, 'eos_token_id') + listed(model, 'eos_token_id')
  template = _template(config.get('chat_template'), f'{path}: chat_template')
  file = folder / 'chat_template.jinja'
  if file.exists():
    try:
      template = read_text(file)
    except (OSError, ValueError) as e:
      raise ValueError(f'{file} is no readable text ({e}).') from e
  return _make(
    backend,
    str(folder),
    ends=named('eos_token') + eos,
    pads=named('pad_token') + listed(generation, 'pad_token_id'),
    bos=named('bos_token'),
    template=template,
  )


def from_gguf(meta: dict, source: str) -> Tokenizer:
  """The tokenizer of GGUF metadata: see `vocabulary.of_gguf`.

  Of a file without a chat template, `chat_template.PLAIN`.
  """
  backend = vocabulary.of_gguf(meta, source)

  def ids(*names):
    keys = [f'tokenizer.ggml.{n}_token_id' for n in names]
    return [meta[k] for k in keys if k in meta]

  key = 'tokenizer.chat_template'
  return _make(
    backend,
    source,
    ends=ids('eos', 'eot'),
    pads=ids('padding'),
    bos=ids('bos'),
    template=_template(meta.get(key), f'{source}: {key}')
    or chat_template.PLAIN,
  )


def byte_level() -> Tokenizer:
  """One token per byte, <|pad|>, <|im_start|>, <|im_end|>; ChatML template."""
  backend = vocabulary.of_bytes(['<|pad|>', '<|im_start|>', '<|im_end|>'])
  return Tokenizer(
    backend, pad_id=256, end_ids=(258,), chat_template=chat_template.CHATML
  )


def _template(value, what: str) -> str:
  """The text of a template: `value` itself, or its 'default' of several."""
  if isinstance(value, list):
    pairs = [t if isinstance(t, dict) else {} for t in value]
    value = {
      _text(t.get('name'), f'{what}: name'): t.get('template') for t in pairs
    }
  if isinstance(value, dict):
    if 'default' not in value:
      raise ValueError(
        f'{what} has no template named default, only {list(value)!s:.60}: '
        "write the one to use into chat_template.jinja in the model's folder."
      )
    value = value['default']
  return '' if value is None else _text(value, what)


def _text(value, what: str) -> str:
  """`value`, checked to be a string of valid Unicode."""
  try:
    if isinstance(value, str):
      value.encode('utf-8')
      return value
  except UnicodeEncodeError:
    pass
  raise ValueError(f'{what} is {value!r:.60}, which must be a string.')


def _make(backend, source, *, ends, pads, bos, template) -> Tokenizer:
  size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
  for i in ends + pads + bos:
    if type(i) is not int or not 0 <= i < size:
      raise ValueError(
        f'{source} names the special token id {i!r:.60}; its tokenizer has '
        f'{size} tokens.'
      )
  marks = [backend.token_to_id(t) for t in _MESSAGE_ENDS]
  ends = tuple(dict.fromkeys(ends + [i for i in marks if i is not None]))
  if not ends:
    raise ValueError(
      f'{source} names no token that ends a text: set eos_token in '
      'tokenizer_config.json.'
    )
  made = Tokenizer(
    backend,
    pad_id=(pads or list(ends))[0],
    end_ids=ends,
    bos_id=bos[0] if bos else None,
    chat_template=template,
  )
  if not template:
    return made
  try:
    end = made.check_template().end
  except ValueError as e:
    raise ValueError(f'{source}: {e}') from e
  if end is None or end in ends:
    return made
  return dataclasses.replace(made, end_ids=(*ends, end))

"""What config files share: the ARG of `--config=configs/NAME.py:ARG`.

ARG is for switches that change several keys at once, such as a scale. One key
is changed with `--config.key=value`.
"""

from rlvr_jax import registry


def parse_arg(arg: str, **known):
  """Reads an ARG such as `tiny`, `scale=tiny` or `tiny,seeds=5`.

  Args:
    arg: words separated by commas, each `key=value`, or `key` for a bool, or
      one of a key's choices.
    **known: the default of each key: a bool, an int, a float, a string, or a
      tuple of strings, which are the choices, the first the default.

  Returns:
    {key: value} with every key of `known`.

  Raises:
    ValueError: a word that nothing knows (lists what is known), or a value
      of another type.
  """
  values = {k: v[0] if isinstance(v, tuple) else v for k, v in known.items()}
  choices = {c: k for k, v in known.items() if isinstance(v, tuple) for c in v}
  for word in filter(None, arg.split(',')):
    key, eq, text = word.partition('=')
    if not eq and word in choices:
      values[choices[word]] = word
    elif not eq and known.get(word) in (True, False):
      values[word] = True
    elif eq and key in known:
      values[key] = _value(key, text, known[key])
    else:
      words = [*choices, *(k for k in known if k not in choices)]
      raise ValueError(
        f'Unknown config ARG {word!r}.{registry.nearest(key, words)} '
        f'Known: {", ".join(words) or "none"}.'
      )
  return values


def _value(key, text, default):
  try:
    if isinstance(default, tuple):
      return default[default.index(text)]
    if isinstance(default, bool):
      return {'true': True, '1': True, 'false': False, '0': False}[text.lower()]
    return type(default)(text)
  except (ValueError, KeyError) as e:
    kind = (
      f'one of {", ".join(default)}'
      if isinstance(default, tuple)
      else type(default).__name__
    )
    raise ValueError(f'Config ARG {key!r} is {kind}, not {text!r}.') from e

"""World: common nouns without a table, for a language model as the oracle."""

import pathlib

from rlvr_jax import registry
from rlvr_jax.envs import guessing, judging

WORDS = (
  'apple arrow balloon banana basket bicycle blanket bridge broom button cactus '
  'camera candle carpet castle chair cherry clock coat comb cow crown desk dog '
  'dolphin door drum eagle egg elephant feather fence fire fork garden giraffe '
  'glove grape guitar hammer hat helmet horse kettle key kitchen ladder lamp '
  'lemon lion mirror moon mountain needle newspaper onion orchestra owl pencil '
  'piano pillow potato rabbit rainbow river rope salt scissors sheep shoe snow '
  'spider spoon sugar swan table teacher telephone tiger tomato tractor train '
  'umbrella violin volcano wallet whale window zebra'
)


def words(*, path: str = '') -> guessing.World:
  """A world whose secrets are the lines of a text file, or WORDS.

  Args:
    path: a file with one word per line; '' for WORDS.

  Raises:
    ValueError: the file cannot be read or has fewer than two different words.
  """
  if path:
    try:
      lines = pathlib.Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as e:
      raise ValueError(
        f'words(path={registry.show(path)}) cannot be read '
        f'({registry.show(str(e))}): give a text file with a '
        'word on each line.'
      ) from e
  else:
    lines = WORDS.split()
  # Names that a guess cannot distinguish, such as Cat and cat, count once.
  by_words: dict[tuple[str, ...], str] = {}
  for line in lines:
    if key := tuple(judging.words(line)):
      by_words.setdefault(key, line.strip())
  names = tuple(by_words.values())
  if len(names) < 2:
    raise ValueError(
      f'words(path={registry.show(path)}) has {len(names)} words: at least 2 '
      'are needed.'
    )
  return guessing.World(
    objects=names,
    attributes=(),
    table=((),) * len(names),
    read=lambda message: set(),
    question=(
      'I am thinking of a common noun. Find out which one it is by asking me '
      'yes-or-no questions, one at a time. When you know, ask "Is it" and the '
      'word.'
    ),
    ask=str,
    guess=lambda name: f'Is it a {name}?',
    elicit=('Is it a ', '?'),
  )

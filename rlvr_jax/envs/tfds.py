"""Tasks: any data set of TFDS, by its name, read without TensorFlow."""

import functools
import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rlvr_jax import registry
from rlvr_jax.envs import records
from rlvr_jax.tasks import Env

# namespace:data_set/config:version; namespace, config and version may lack.
_NAME = re.compile(
  r'(?:\w+:)?(?P<dataset>[A-Za-z]\w*)(?:/(?P<config>\w[\w.-]*))?'
  r'(?::(?P<version>\d+\.\d+\.\d+))?'
)


@registry.register('env')
def tfds(
  *,
  name: str,
  question: str = 'question',
  answer: str = 'answer',
  split: str = 'train',
  pick: str = 'plain',
  test_split: str = 'test',
  test_fraction: float = 0.1,
  solution: str = '',
  max_bad: float = 0.1,
  data_dir: str = '',
) -> Env:
  """A TFDS data set by its name, such as 'ai2_arc/ARC-Easy'.

    tfds('gsm8k', pick=hash)
    tfds('ai2_arc/ARC-Easy', answer=answerKey,
         pick='choice(options=choices.text)')
    tfds('huggingface:openai__gsm8k/main', pick=hash)

  It is downloaded and prepared in data_dir the first time, as array_record, and
  read from there afterwards, without a network. The namespace `huggingface:`
  needs the package `datasets` to prepare, and not to read.

  Bad rows (see `records.env`) are counted and named in a warning, or refused
  where they are more than `max_bad`. Ids are the split of the data set and the
  number of the row there.

  Args:
    name: what `tfds.builder` takes: data set, config, version.
    question: the field with the question; 'a.b' is field b of a, 'a.0' the
      first of a list, as in 'prompt.0.content'.
    answer: the field that `pick` reads.
    split: the rows of the train split, as TFDS writes them: 'train',
      'train[:90%]', 'train+validation[100:]'.
    pick: the rule that reads the gold answer: `plain`, `words`, `hash` (after
      ####), `boxed`, `choice(options=FIELD)`, or another function registered as
      a `pick`, see `envs.gold_picks`.
    test_split: the rows of the test split; '': a share of the questions of
      `split`, chosen as `jsonl` does.
    test_fraction: that share, in (0, 1).
    solution: the field with a worked solution, which supervised training
      imitates; '': the answer field, where `hash` or `boxed` read it.
    max_bad: largest share of bad rows in a split.
    data_dir: folder of prepared data sets; '': that of TFDS.

  Raises:
    ValueError: TFDS is missing, the data set is unknown or cannot be prepared,
      or see `records.env`.
  """
  source = Prepared(name, _builder(name, data_dir))
  fields = records.Fields(question, answer, pick, solution)
  return records.env(
    source,
    fields,
    split=split,
    test_split=test_split,
    test_fraction=test_fraction,
    max_bad=max_bad,
  )


class Prepared:
  """The records of a prepared TFDS data set: a `records.Source`."""

  def __init__(self, name: str, builder: Any):
    self.name = name
    self.sizes: Mapping[str, int] = {
      k: v.num_examples for k, v in builder.info.splits.items()
    }
    self._builder = builder

  def read(
    self, split: str, rows: range, keys: Sequence[str]
  ) -> Iterator[tuple[str, Any]]:
    """See `records.Source`."""
    try:
      source = self._builder.as_data_source(split)
    except (NotImplementedError, ImportError) as e:
      raise ValueError(
        f'{self.name} in {registry.show(str(self._builder.data_dir))} cannot '
        f'be read without TensorFlow ({str(e)[:200]}): prepare it as '
        'array_record, which another data_dir does.'
      ) from e
    for i in rows:
      try:
        record: Any = _values(source[i], self._builder.info.features)
      except ValueError as e:
        record = e
      yield f'{split} row {i}', record

  def fields(self, split: str) -> list[str]:
    """See `records.Source`."""
    out = []
    for key, feature in self._builder.info.features.items():
      inner = getattr(feature, 'keys', list)()
      out += [f'{key}.{k}' for k in inner] or [key]
    return out


def package(what: str, otherwise: str) -> ModuleType:
  """The package tensorflow_datasets, which does not import TensorFlow.

  Raises:
    ValueError: it is missing; names `what` needs it, and a way without it.
  """
  try:
    # TFDS imports it without declaring it as a requirement.
    importlib.import_module('importlib_resources')
    return importlib.import_module('tensorflow_datasets')
  except ImportError as e:
    raise ValueError(
      f"{what} needs TFDS ({e}): pip install 'rlvr_jax[tfds]', or {otherwise}."
    ) from e


def _builder(name: str, data_dir: str) -> Any:
  """The builder of a data set that is prepared by now."""
  lib = package(
    f'tfds({registry.show(name)})', 'read a local folder by folder(path=...)'
  )
  root = Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  ).expanduser()
  if found := _prepared(root, name):
    return lib.builder_from_directory(str(found))
  try:
    make = functools.partial(
      lib.builder, name, data_dir=str(root), file_format='array_record'
    )
    try:
      builder = make()
    except lib.core.registered.DatasetNotFoundError:
      if not _import_builder(lib, name):
        raise
      builder = make()
    builder.download_and_prepare()
  except Exception as e:  # a builder is any code, and raises anything
    why = ' '.join(str(e).split())
    raise ValueError(
      f'tfds({registry.show(name)}) is not prepared in {registry.show(str(root))}'
      f' and cannot be ({type(e).__name__}: {why[:300]}). Check the name at '
      'https://www.tensorflow.org/datasets/catalog; without a network, prepare '
      'it elsewhere as array_record and give its data_dir, or read the files of '
      'a hub by folder(path=...).'
    ) from e
  return builder


def _prepared(root: Path, name: str) -> Path | None:
  """The folder of the newest prepared version of a data set, None without."""
  match = _NAME.fullmatch(name)
  if match is None:
    return None
  folder = root
  for word in filter(None, (match['dataset'], match['config'])):
    # So does TFDS write the names that `huggingface:` has.
    known = re.sub(r'\W', '_', word.lower())
    folder /= word if os.path.isdir(folder / word) else known
  if not os.path.isdir(folder):
    return None
  infos = folder.glob(f'{match["version"] or "*"}/dataset_info.json')
  versions = {
    tuple(map(int, info.parent.name.split('.'))): info.parent
    for info in infos
    if re.fullmatch(r'\d+\.\d+\.\d+', info.parent.name)
  }
  return versions[max(versions)] if versions else None


def _import_builder(lib: ModuleType, name: str) -> bool:
  """Imports the module of a builder that TFDS finds only once it is imported.

  Those in one file, such as text/gsm8k/gsm8k.py.
  """
  match = _NAME.fullmatch(name)
  root = Path(lib.__file__).parent
  for path in sorted(root.glob(f'*/{match["dataset"]}/') if match else ()):
    importlib.import_module(f'{lib.__name__}.{path.parent.name}.{path.name}')
    return True
  return False


def _values(value: Any, feature: Any) -> Any:
  """Plain values of what a data source gives; None for TFDS's sign of null."""
  feature = getattr(feature, 'feature', feature)  # of a sequence
  if isinstance(value, Mapping):
    return {k: _values(v, feature[k]) for k, v in value.items()}
  if isinstance(value, (list, tuple)) or getattr(value, 'ndim', 0) > 0:
    return [_values(v, feature) for v in value]
  if isinstance(value, bytes):
    return value.decode()
  if isinstance(value, (np.generic, np.ndarray)):
    value = value.item()
  kind = np.dtype(getattr(feature, 'np_dtype', None) or object)
  # `huggingface:` writes null as the least value of the type.
  if type(value) is int and kind.kind == 'i':
    return None if value == np.iinfo(kind).min else value
  if type(value) is float and kind.kind == 'f':
    # The shortest float64 that is written like it: 0.1, not 0.10000000149.
    least = value == np.finfo(kind).min
    return None if least else float(str(kind.type(value)))
  return value

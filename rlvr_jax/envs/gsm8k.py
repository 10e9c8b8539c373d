"""Tasks: GSM8K, grade-school word problems (Cobbe et al., arXiv:2110.14168).

Read from local files, or through a TFDS builder that needs no TensorFlow.
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rlvr_jax import registry
from rlvr_jax.envs import gold_picks, jsonl
from rlvr_jax.envs import tfds as tfds_lib
from rlvr_jax.tasks import Env, Lazy, Task

_URL = (
  'https://raw.githubusercontent.com/openai/grade-school-math/master/'
  'grade_school_math/data/{}.jsonl'
)
# SHA-256 of the published files: 7,473 and 1,319 problems.
_DIGESTS = {
  'train': '17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465',
  'test': '3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14',
}
_BUILDER = 'rlvr_gsm8k'


@registry.register('env')
def gsm8k(
  *,
  data_dir: str = '',
  train_file: str = '',
  test_file: str = '',
  download: bool = False,
) -> Env:
  """Problems with integer answers; `data['solution']` is the worked solution.

  The first source that applies is used:
    train_file and test_file: JSONL files with a `question` and an `answer`
      that ends in '#### 41'. With a data_dir they are converted to a TFDS data
      set in it once, and read from that afterwards.
    data_dir with train.jsonl and test.jsonl: these files.
    data_dir with a prepared TFDS data set: that data set.
    data_dir and download: the published files, checked by their digests and
      prepared in data_dir.

  Args:
    data_dir: folder with the files or the prepared data set.
    train_file: path of the train split; needs test_file.
    test_file: path of the test split; needs train_file.
    download: whether to download the published files if data_dir has none.

  Raises:
    ValueError: no source applies, rows are invalid, a question is in both
      splits, TFDS is needed and missing, or the download fails.
  """
  if bool(train_file) != bool(test_file):
    raise ValueError(
      f'train_file={registry.show(train_file)} and '
      f'test_file={registry.show(test_file)}: give both or neither.'
    )
  files = {'train': train_file, 'test': test_file}
  folder = Path(os.path.expanduser(data_dir)) if data_dir else None
  if folder and train_file:
    return _open(prepare(data_dir, files))
  if folder:
    local = {split: str(folder / f'{split}.jsonl') for split in files}
    if all(os.path.isfile(path) for path in local.values()):
      files = local
  if files['train']:
    rows = _rows(files)
    return {
      split: Lazy(
        len(rows[split]),
        functools.partial(_from_row, rows[split], split),
        rows[split],
      )
      for split in files
    }
  prepared = []
  if folder and os.path.isdir(folder):
    prepared = sorted(folder.glob(f'{_BUILDER}/*/*/dataset_info.json'))
  if len(prepared) == 1:
    tfds = _tfds()
    return _open(tfds.builder_from_directory(str(prepared[0].parent)))
  if prepared:
    raise ValueError(
      f'data_dir={registry.show(data_dir)} holds {len(prepared)} prepared data '
      f'sets ({", ".join(p.parts[-3] for p in prepared)}): give train_file and '
      'test_file, or remove all but one.'
    )
  if folder and download:
    return _open(prepare(data_dir, None))
  raise ValueError(
    f'GSM8K is not in data_dir={registry.show(data_dir)}. Give train_file and '
    'test_file, or a data_dir with train.jsonl and test.jsonl (they are in '
    'https://github.com/openai/grade-school-math), or a data_dir with '
    "download=True (which needs pip install 'rlvr_jax[tfds]')."
  )


def prepare(data_dir: str, files: dict[str, str] | None) -> Any:
  """Prepares a TFDS data set in `data_dir` and returns its builder.

  A data set is prepared only once: the digest of the files is part of its
  name, so other files give another data set.

  Args:
    data_dir: folder for prepared data sets.
    files: {split: path}, or None to download the published files.

  Raises:
    ValueError: TFDS is missing, rows are invalid, or the download fails.
  """
  tfds = _tfds()
  if files:
    digest = hashlib.sha256(
      b''.join(_digest(files[split]).encode() for split in sorted(files))
    ).hexdigest()
    name = f'files-{digest[:12]}'
  else:
    name = 'published'
  builder = _builder_class()(
    files=files,
    data_dir=os.path.expanduser(data_dir),
    config=tfds.core.BuilderConfig(name=name, version='1.0.0'),
    file_format='array_record',
  )
  if files and not builder.is_prepared():
    _rows(files)  # refuses invalid rows before TFDS creates folders
  try:
    builder.download_and_prepare()
  except (OSError, tfds.download.DownloadError) as e:
    raise ValueError(
      f'Cannot prepare GSM8K in {registry.show(data_dir)} ({type(e).__name__}: '
      f'{str(e)[:200]}). Without a network connection, copy train.jsonl and '
      'test.jsonl into that folder.'
    ) from e
  return builder


def gold(text: str) -> str:
  """Returns the gold answer: '... #### 1,041' -> '1041'.

  Raises:
    ValueError: no answer after '####'.
  """
  return gold_picks.after_hash(text).replace(',', '')


def _rows(files: dict[str, str]) -> dict[str, list[jsonl.Row]]:
  """Reads and checks the rows of all splits."""
  rows = {
    split: jsonl.read(path, 'question', 'answer', gold)
    for split, path in files.items()
  }
  jsonl.check_disjoint(
    rows['train'], rows['test'], files['train'], files['test']
  )
  return rows


def _from_row(rows: Sequence[jsonl.Row], split: str, index: int) -> Task:
  row = rows[index]
  return _task(split, index, row.question, row.answer, row.text)


def _task(
  split: str, index: int, question: str, answer: str, solution: str
) -> Task:
  return Task(
    f'{split}-{index}', question, answer, 'math', {'solution': solution}
  )


def _digest(path: str) -> str:
  with open(jsonl.find(path), 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def _open(builder: Any) -> Env:
  sources = {split: builder.as_data_source(split) for split in _DIGESTS}
  return {
    split: Lazy(len(source), functools.partial(_from_record, source, split))
    for split, source in sources.items()
  }


def _from_record(source: Sequence[Mapping], split: str, index: int) -> Task:
  record = source[index]
  fields = (_text(record[key]) for key in ('question', 'answer', 'solution'))
  return _task(split, index, *fields)


def _text(value: bytes | str) -> str:
  """Decodes a text field: bytes from TFDS, str from its mocks."""
  return value.decode() if isinstance(value, bytes) else str(value)


def _tfds() -> ModuleType:
  return tfds_lib.package(
    'Prepared GSM8K', 'give train_file and test_file without data_dir'
  )


@functools.cache
def _builder_class() -> type:
  """Defines the TFDS builder on first use, since TFDS is optional."""
  tfds = _tfds()

  class RlvrGsm8k(tfds.core.GeneratorBasedBuilder):  # type: ignore[name-defined]
    """GSM8K in the order of its files."""

    name = _BUILDER
    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, *, files: dict[str, str] | None, **kwargs: Any):
      self._files = files
      super().__init__(**kwargs)

    def _info(self) -> Any:
      text = tfds.features.Text()
      return tfds.core.DatasetInfo(
        builder=self,
        description='Grade-school word problems with worked solutions.',
        homepage='https://github.com/openai/grade-school-math',
        features=tfds.features.FeaturesDict(
          {'question': text, 'answer': text, 'solution': text}
        ),
        supervised_keys=('question', 'answer'),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
      files = self._files
      if files is None:
        urls = {split: _URL.format(split) for split in _DIGESTS}
        files = {k: str(v) for k, v in dl_manager.download(urls).items()}
        for split, path in files.items():
          if _digest(path) != _DIGESTS[split]:
            raise ValueError(
              f'{urls[split]} is not the published GSM8K file: its SHA-256 '
              f'is {_digest(path)}, not {_DIGESTS[split]}. If you trust it, '
              'give it as train_file or test_file.'
            )
      rows = _rows(files)
      return {k: self._generate_examples(rows[k]) for k in files}

    def _generate_examples(
      self, rows: Sequence[jsonl.Row]
    ) -> Iterator[tuple[int, dict[str, str]]]:
      for i, row in enumerate(rows):
        yield (
          i,
          {
            'question': row.question,
            'answer': row.answer,
            'solution': row.text,
          },
        )

  return RlvrGsm8k

"""GSM8K, grade-school word problems (Cobbe et al., 2021, arXiv:2110.14168).

From local files, or through a TFDS builder that needs no TensorFlow.
"""

import functools
import hashlib
import importlib
import os
from pathlib import Path

from rlvr_jax import registry
from rlvr_jax.envs import jsonl
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
  """Problems with whole-number answers; `data['solution']` has the working.

  Where they come from, the first that applies:
    train_file and test_file: these JSONL files, with a `question` and an
      `answer` that ends in '#### 41'. With a data_dir they are prepared there
      once, as a TFDS data set, and read from it from then on.
    data_dir with train.jsonl and test.jsonl: these files.
    data_dir with a prepared data set: it.
    data_dir and download: the published files, whose digests are checked,
      prepared in data_dir.

  Raises:
    ValueError: none of these, bad rows, a question in both splits, TFDS
      missing where it is needed, a download that fails.
  """
  if bool(train_file) != bool(test_file):
    raise ValueError(
      f'train_file={registry.show(train_file)} and test_file={registry.show(test_file)}: give both or '
      'neither.'
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
      f'data_dir={registry.show(data_dir)} holds {len(prepared)} prepared data sets '
      f'({", ".join(p.parts[-3] for p in prepared)}): give train_file and '
      'test_file, or remove all but one.'
    )
  if folder and download:
    return _open(prepare(data_dir, None))
  raise ValueError(
    f'GSM8K is not in data_dir={registry.show(data_dir)}. Give train_file and test_file, '
    'or a data_dir with train.jsonl and test.jsonl (they are in '
    'https://github.com/openai/grade-school-math), or a data_dir with '
    "download=True (which needs pip install 'rlvr_jax[tfds]')."
  )


def prepare(data_dir: str, files: dict[str, str] | None):
  """The TFDS builder of these JSONL files, prepared in `data_dir`.

  Does the work once: the files' digest is part of the data set's name, so
  other files make another data set.

  Args:
    data_dir: folder for prepared data sets.
    files: paths by split, or None to download the published files.

  Raises:
    ValueError: TFDS missing, bad rows, a download that fails.
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
    _rows(files)  # refuses bad rows before TFDS makes folders
  try:
    builder.download_and_prepare()
  except (OSError, tfds.download.DownloadError) as e:
    raise ValueError(
      f'Cannot prepare GSM8K in {registry.show(data_dir)} ({type(e).__name__}: '
      f'{str(e)[:200]}). Without a connection, get train.jsonl and test.jsonl '
      'another way and put them there.'
    ) from e
  return builder


def gold(text: str) -> str:
  """'... #### 1,041' -> '1041'. ValueError where there is no such mark."""
  _, mark, answer = text.rpartition('####')
  answer = answer.strip().replace(',', '')
  if not mark or not answer:
    raise ValueError(f'answer {text[-40:]!r} does not end in "#### NUMBER".')
  return answer


def _rows(files: dict[str, str]) -> dict[str, list[jsonl.Row]]:
  rows = {
    split: jsonl.read(path, 'question', 'answer', gold)
    for split, path in files.items()
  }
  jsonl.check_disjoint(
    rows['train'], rows['test'], files['train'], files['test']
  )
  return rows


def _from_row(rows, split, index) -> Task:
  row = rows[index]
  return _task(split, index, row.question, row.answer, row.text)


def _task(split, index, question, answer, solution) -> Task:
  return Task(
    f'{split}-{index}', question, answer, 'math', {'solution': solution}
  )


def _digest(path: str) -> str:
  with open(jsonl.find(path), 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def _open(builder) -> Env:
  sources = {split: builder.as_data_source(split) for split in _DIGESTS}
  return {
    split: Lazy(len(source), functools.partial(_from_record, source, split))
    for split, source in sources.items()
  }


def _from_record(source, split, index) -> Task:
  record = source[index]
  fields = (_text(record[key]) for key in ('question', 'answer', 'solution'))
  return _task(split, index, *fields)


def _text(value) -> str:
  """TFDS gives text as bytes, its mocks as str."""
  return value.decode() if isinstance(value, bytes) else str(value)


def _tfds():
  try:
    importlib.import_module('importlib_resources')  # TFDS needs it, undeclared
    return importlib.import_module('tensorflow_datasets')
  except ImportError as e:
    raise ValueError(
      f"Prepared GSM8K needs TFDS ({e}): pip install 'rlvr_jax[tfds]', or "
      'give train_file and test_file without data_dir.'
    ) from e


@functools.cache
def _builder_class():
  """The builder, defined when needed: TFDS is optional."""
  tfds = _tfds()

  class RlvrGsm8k(tfds.core.GeneratorBasedBuilder):
    """GSM8K in the order of its files."""

    name = _BUILDER
    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, *, files, **kwargs):
      self._files = files
      super().__init__(**kwargs)

    def _info(self):
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

    def _split_generators(self, dl_manager):
      files = self._files
      if files is None:
        urls = {split: _URL.format(split) for split in _DIGESTS}
        files = {k: str(v) for k, v in dl_manager.download(urls).items()}
        for split, path in files.items():
          if _digest(path) != _DIGESTS[split]:
            raise ValueError(
              f'{urls[split]} is not the GSM8K file that is known: its SHA-256 '
              f'is {_digest(path)}, not {_DIGESTS[split]}. If you trust it, '
              'give it as train_file or test_file.'
            )
      rows = _rows(files)
      return {k: self._generate_examples(rows[k]) for k in files}

    def _generate_examples(self, rows):
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

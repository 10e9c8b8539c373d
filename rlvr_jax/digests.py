"""Digests of a run's inputs: tasks, weights, tokenizers.

They are stored with the results (in a checkpoint, in the first line of a file
of samples or labels), so that an input that was edited or replaced in between
is detected even if its name, size and date are unchanged.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

SEEN = 20_000  # most tasks of a generated split that are built and hashed


def of_tasks(tasks: Sequence[Any]) -> str:
  """'24 tasks, 0f3a...': number and digest of all tasks, in order.

  For a lazily built split of more than `SEEN` tasks: the digest of `SEEN`
  evenly spaced ones and of all the data that they are built from (`Lazy.of`).
  """
  size, digest = len(tasks), hashlib.sha256()
  indices: Iterable[int] = range(size)
  if not isinstance(tasks, (list, tuple)) and size > SEEN:
    indices = (i * size // SEEN for i in range(SEEN))
    source = getattr(tasks, 'of', None)
    if source is not None:
      digest.update(of_tasks(source).encode())
  for i in indices:
    digest.update(json.dumps(tasks[i], sort_keys=True, default=str).encode())
    digest.update(b'\n')
  return f'{size} tasks, {digest.hexdigest()[:16]}'


def of_rows(rows: Sequence[Any]) -> str:
  """Digest of plain values, such as the lines of a file."""
  text = json.dumps(rows, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_tokenizer(tokenizer: Any) -> str:
  """Digest of vocabulary, special tokens and chat template."""
  names = [f.name for f in dataclasses.fields(tokenizer) if f.name != 'backend']
  values = [(name, getattr(tokenizer, name)) for name in names]
  return of_rows([tokenizer.backend.to_str(), values])


class Weights:
  """Wraps a loader's `place` callback; hashes all parameters that pass through.

  The digest covers names, shapes, dtypes and bytes, so it does not depend on
  the file format that the weights were read from.
  """

  def __init__(self, place: Callable[[tuple[str, ...], np.ndarray], Any]):
    self._place = place
    self._digests: dict[str, str] = {}

  def __call__(self, path: tuple[str, ...], x: np.ndarray) -> Any:
    digest = hashlib.sha256(f'{x.dtype}{x.shape}'.encode())
    digest.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8))
    self._digests['.'.join(path)] = digest.hexdigest()
    return self._place(path, x)

  @property
  def digest(self) -> str:
    """Digest of all parameters so far; '' if there were none."""
    return of_rows(sorted(self._digests.items())) if self._digests else ''


def of_model(key: str, weights: str, tokenizer: Any) -> dict[str, str]:
  """Digests of the model named by the config key `key`, by description."""
  digests = {f'{key}: tokenizer': of_tokenizer(tokenizer)}
  return digests | ({f'{key}: weights': weights} if weights else {})


def differing(old: Mapping, new: Mapping) -> list[str]:
  """Entries that differ, as 'name: old then, new now'; '(none)' if absent."""
  names = dict.fromkeys([*old, *new])
  return [
    f'{name}: {old.get(name, "(none)")} then, {new.get(name, "(none)")} now'
    for name in names
    if old.get(name) != new.get(name)
  ]

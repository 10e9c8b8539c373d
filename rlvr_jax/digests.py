"""Digests of what a computation reads: tasks, weights, tokenizers.

They stand beside what was computed from them (in a checkpoint, in the first
line of a file of samples or of labels), so that a file that was edited or
replaced in between is noticed, whatever its name, size and date say.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SEEN = 20_000  # tasks of a split that are built one by one


def of_tasks(tasks: Sequence) -> str:
  """'24 tasks, 0f3a...': all fields of all tasks, in order.

  Of a split whose tasks are built when asked for and more than `SEEN`, so many
  tasks spread over it, and all of what it is made from (`Lazy.of`).
  """
  size, digest = len(tasks), hashlib.sha256()
  places = range(size)
  if not isinstance(tasks, (list, tuple)) and size > SEEN:
    places = (i * size // SEEN for i in range(SEEN))
    if getattr(tasks, 'of', None) is not None:
      digest.update(of_tasks(tasks.of).encode())
  for i in places:
    digest.update(json.dumps(tasks[i], sort_keys=True, default=str).encode())
    digest.update(b'\n')
  return f'{size} tasks, {digest.hexdigest()[:16]}'


def of_rows(rows: Sequence) -> str:
  """Digest of plain values, such as the lines of a file."""
  text = json.dumps(rows, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_tokenizer(tokenizer) -> str:
  """Digest of vocabulary, special tokens and chat template."""
  names = [f.name for f in dataclasses.fields(tokenizer) if f.name != 'backend']
  values = [(name, getattr(tokenizer, name)) for name in names]
  return of_rows([tokenizer.backend.to_str(), values])


class Weights:
  """A `place` that passes on what it sees, and the digest of all of it.

  Of names, shapes, dtypes and bytes of the parameters: the same weights have
  one digest whatever kind of file they came from.
  """

  def __init__(self, place: Callable[[tuple[str, ...], np.ndarray], Any]):
    self._place, self._seen = place, {}

  def __call__(self, path: tuple[str, ...], x: np.ndarray) -> Any:
    digest = hashlib.sha256(f'{x.dtype}{x.shape}'.encode())
    digest.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8))
    self._seen['.'.join(path)] = digest.hexdigest()
    return self._place(path, x)

  @property
  def digest(self) -> str:
    """'' where no weights were read."""
    return of_rows(sorted(self._seen.items())) if self._seen else ''


def of_model(key: str, weights: str, tokenizer) -> dict[str, str]:
  """What there is to remember of the model that the config's `key` names."""
  found = {f'{key}: tokenizer': of_tokenizer(tokenizer)}
  return found | ({f'{key}: weights': weights} if weights else {})


def differing(old: Mapping, new: Mapping) -> list[str]:
  """What differs, 'name: old then, new now' each; '(none)' where one lacks."""
  names = dict.fromkeys([*old, *new])
  return [
    f'{name}: {old.get(name, "(none)")} then, {new.get(name, "(none)")} now'
    for name in names
    if old.get(name) != new.get(name)
  ]

"""Two models may share token ids only if they share the vocabulary."""

import pytest

from rlvr_jax.io import frozen_model, tokenizer

BYTES = tokenizer.byte_level()


def test_teachers_must_share_the_vocabulary():
  policy = ('model.name', 'b', BYTES)
  frozen_model.check_same_vocabulary(('teacher.name', 'a', BYTES), policy)
  other = tokenizer.byte_level()
  other = type(other)(other.backend, other.pad_id, (65,))
  with pytest.raises(ValueError, match=r"teacher\.name='a' and model.name='b'"):
    frozen_model.check_same_vocabulary(('teacher.name', 'a', other), policy)

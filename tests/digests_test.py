"""Digests change with any change of the inputs, and with nothing else."""

import json

import ml_dtypes
import numpy as np
import pytest

from rlvr_jax import checks, digests, registry
from rlvr_jax.io import load, tokenizer
from rlvr_jax.tasks import Lazy, Task


def tasks(n):
  return [Task(f't{i}', f'{i}?', str(i), 'math', {}) for i in range(n)]


@pytest.mark.parametrize(
  'change',
  [
    {'id': 'x'},
    {'question': '2 ?'},
    {'answer': '2.0'},
    {'verifier': 'exact'},
    {'data': {'solution': '2'}},
  ],
)
@pytest.mark.parametrize('place', [0, 2, 4])
def test_any_field_of_any_task(place, change):
  some = tasks(5)
  before = digests.of_tasks(some)
  assert before.startswith('5 tasks, ')
  assert digests.of_tasks(tuple(tasks(5))) == before
  some[place] = some[place]._replace(**change)
  assert digests.of_tasks(some) != before
  assert digests.of_tasks(tasks(5)[::-1]) != before
  assert digests.of_tasks(tasks(4)) != before


def test_order_of_keys_and_kind_of_sequence_do_not_matter():
  a = Task('a', 'b', 'c', 'math', {'x': 1, 'y': (2, 3)})
  b = a._replace(data={'y': [2, 3], 'x': 1})
  assert digests.of_tasks([a]) == digests.of_tasks([b])
  lazy = Lazy(1, lambda i: a)
  assert digests.of_tasks(lazy) == digests.of_tasks([a])


def test_a_long_list_is_hashed_whole_and_a_long_generated_split_is_not():
  n = digests.SEEN + 7
  some = tasks(n)
  before = digests.of_tasks(some)
  built = []

  def make(i):
    built.append(i)
    return some[i]

  lazily = digests.of_tasks(Lazy(n, make))
  assert len(built) == digests.SEEN
  assert max(built) > n - 3
  of = digests.of_tasks(Lazy(n, make, some))
  left_out = next(i for i in range(n) if i not in set(built))
  some[left_out] = some[left_out]._replace(answer='other')
  assert digests.of_tasks(some) != before
  assert digests.of_tasks(Lazy(n, make)) == lazily
  assert digests.of_tasks(Lazy(n, make, some)) != of
  # Only the tasks that are trained on, and those of a list in full.
  c = type('C', (), {'train_tasks': left_out + 1, 'env': ''})
  assert isinstance(checks.training_tasks(c, some), list)
  lazy = checks.training_tasks(c, Lazy(n, make, some))
  assert lazy.of is some


def test_edits_to_files_of_every_environment_are_detected(tmp_path):
  """An edit anywhere: gold, question, solution, the last row."""

  def write(name, at=None, **change):
    rows = [
      {
        'question': f'{i} + 1?',
        'answer': f'{i}\n{i} + 1 = {i + 1}\n#### {i + 1}',
        'solution': f'a\nb {i}',
      }
      for i in range(9)
    ]
    if name == 'plain':
      rows = [r | {'answer': str(i + 1)} for i, r in enumerate(rows)]
    if at is not None:
      rows[at] |= change
    text = ''.join(json.dumps(r) + '\n' for r in rows)
    (tmp_path / f'{name}.jsonl').write_text(text)

  other = tmp_path / 'test.jsonl'
  other.write_text('{"question": "q", "answer": "#### 3"}\n')
  plain = f"jsonl(path='{tmp_path}/plain.jsonl', test_fraction=0.2)"
  marked = f"gsm8k(train_file='{tmp_path}/marked.jsonl', test_file='{other}')"
  specs = {
    plain: ('plain', {'answer': '77'}),
    f'steps({plain}, validation=1)': ('plain', {'solution': 'c\nb'}),
    marked: ('marked', {'answer': '#### 77'}),
    f'steps({marked}, validation=1)': ('marked', {'answer': 'x\ny\n#### 2'}),
  }
  for spec, (name, change) in specs.items():

    def now(spec=spec):
      env = registry.get('env', spec)()
      return [digests.of_tasks(split) for split in env.values()]

    write(name)
    before = now()
    assert now() == before
    for at in (0, 4, 8):
      write(name, at, **change)
      assert now() != before, (spec, at)


def digest(tree, order=1):
  seen = digests.Weights(lambda path, x: None)
  for path, x in list(tree.items())[::order]:
    assert seen((path,), x) is None
  return seen.digest


def test_weights():
  rng = np.random.default_rng(0)
  tree = {k: rng.normal(size=(3, 4)).astype(np.float32) for k in 'abc'}
  before = digest(tree)
  assert digest(tree, -1) == before
  assert digest({k: np.asfortranarray(x) for k, x in tree.items()}) == before
  one = tree['b'].copy()
  one[2, 3] = np.nextafter(one[2, 3], 9)  # a bit of one number
  assert digest(tree | {'b': one}) != before
  assert digest(tree | {'b': tree['b'].T}) != before
  assert digest(tree | {'b': tree['b'].reshape(4, 3)}) != before
  swapped = {'a': tree['b'], 'b': tree['a'], 'c': tree['c']}
  assert digest(swapped) != before
  assert digest({}) == ''
  half = {k: x.astype(ml_dtypes.bfloat16) for k, x in tree.items()}
  assert digest(half) not in (before, '')
  assert digest({'a': np.float32(3)}) != digest({'a': np.float32(4)})


def test_tokenizers():
  a, b = tokenizer.byte_level(), tokenizer.byte_level()
  before = digests.of_tokenizer(a)
  assert a.vocab_size  # cached attributes are not hashed
  assert a.specials
  assert digests.of_tokenizer(a) == digests.of_tokenizer(b) == before
  fields = (b.backend, b.pad_id, b.end_ids, b.bos_id)
  for change in (
    type(b)(*fields, chat_template='{{ x }}'),
    type(b)(b.backend, b.pad_id, (7,), b.bos_id, b.chat_template),
  ):
    assert digests.of_tokenizer(change) != before


def test_random_weights_have_no_digest():
  assert load.load('tiny(layers=1)').weights == ''


def test_differences_are_named():
  old, new = {'a': '1', 'b': '2', 'c': '3'}, {'a': '1', 'b': '4', 'd': '5'}
  assert digests.differing(old, new) == [
    'b: 2 then, 4 now',
    'c: 3 then, (none) now',
    'd: (none) then, 5 now',
  ]

"""Specs: what they bind, and what is refused with which remedy."""

import inspect
import random
import string

import numpy as np
import pytest

from rlvr_jax import forms, registry

KINDS = ['credit', 'estimator', 'surrogate', 'aggregate', 'kl']
EXPECTED = {
  'credit': {'outcome'},
  'estimator': {
    'reinforce',
    'grpo',
    'dr_grpo',
    'rloo',
    'psr',
    'nsr',
    'weighted_reinforce',
    'pass_at_k',
  },
  'surrogate': {'reinforce', 'clip', 'dual_clip', 'gspo', 'cispo'},
  'aggregate': {
    'token_mean',
    'seq_mean_token_mean',
    'seq_mean_token_sum',
    'constant',
  },
  'kl': {'k1', 'k2', 'k3'},
}


def refused(kind, spec, *parts):
  with pytest.raises(ValueError) as info:
    registry.get(kind, spec)
  for part in parts:
    assert part in str(info.value)


@pytest.mark.parametrize('kind', KINDS)
def test_names_are_sorted_and_hold_the_core(kind):
  names = registry.names(kind)
  assert names == sorted(names)
  assert EXPECTED[kind] <= set(names)


@pytest.mark.parametrize('kind', KINDS)
def test_every_option_is_keyword_only(kind):
  """So that a spec can set it, and data cannot land in it."""
  arity = {'credit': 3, 'estimator': 2, 'surrogate': 4, 'aggregate': 2, 'kl': 2}
  # gae is the critic's, with the tokens of a row for a group.
  more = {
    'estimator': {'length', 'greedy', 'surprise', 'mask'},
    'surrogate': {'chosen'},
  }
  for name in registry.names(kind):
    parameters = inspect.signature(registry._load(kind)[name]).parameters
    data = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert len(data) >= arity[kind], name
    assert set(data[arity[kind] :]) <= more.get(kind, set()), name


@pytest.mark.parametrize(
  ('spec', 'want'),
  [
    ('clip', ('clip', [], {})),
    ('  clip  ', ('clip', [], {})),
    ('clip()', ('clip', [], {})),
    ('clip(0.2, high=-.3)', ('clip', [0.2], {'high': -0.3})),
    (
      "f('a', [1, (2,)], k={'x': None})",
      ('f', ['a', [1, (2,)]], {'k': {'x': None}}),
    ),
    ('f(1e-4, True)', ('f', [1e-4, True], {})),
    ('f(g( 1,  k=h(é)), x)', ('f', ['g( 1,  k=h(é))', 'x'], {})),
    ('f(k=g())', ('f', [], {'k': 'g()'})),
  ],
)
def test_parse(spec, want):
  assert registry.parse(spec) == want


@pytest.mark.parametrize(
  'spec',
  [
    '',
    '   ',
    'clip(',
    'clip)',
    'a b',
    '1',
    "'clip'",
    'clip(0.2)(0.3)',
    'clip(**{"low": 1})',
    'clip(low=1, low=2)',
    'clip(*[1])',
    "__import__('os').system('true')",
    "clip(low=__import__('os').getpid())",
    'clip(lambda: 1)',
    'clip([x for x in (1,)])',
    'clip(1 if 1 else 2)',
    'clip(low.high)',
    'clip(f"{1}")',
    'clip; clip',
    'clip\nclip',
    'clip(\x00)',
    'lambda: 1',
    'f(g(**{"a": 1}))',
    'f(g(a=1, a=2))',
    'f(g.h(1))',
    'f(g(1)(2))',
    'f([g(1)])',
    'f(' * 10 + ')' * 10,
  ],
)
def test_what_is_not_a_literal_call_is_refused(spec):
  with pytest.raises(ValueError, match='write'):
    registry.parse(spec)


@pytest.mark.parametrize('spec', [None, 3, b'clip', ['clip']])
def test_what_is_not_text_is_refused(spec):
  with pytest.raises(ValueError, match='Bad spec'):
    registry.parse(spec)


@pytest.mark.parametrize('depth', [500, 4_000])
def test_deep_nesting_is_refused_not_crashed_on(depth):
  with pytest.raises(ValueError, match='Bad spec'):
    registry.parse('f(' + '[' * depth + ']' * depth + ')')
  with pytest.raises(ValueError, match='Bad spec'):
    registry.parse('f(' * depth + ')' * depth)


def test_a_huge_spec_is_refused_in_a_short_message():
  with pytest.raises(ValueError) as info:
    registry.parse('clip(' + '1, ' * 100_000 + ')')
  assert len(str(info.value)) < 300


def test_unknown_kind_and_name_give_the_nearest():
  refused('estimater', 'grpo', "'estimater'", "Did you mean 'estimator'?")
  refused('estimator', 'grop', "'grop'", "Did you mean 'grpo'?", 'rloo')
  refused('kl', 'zzzzzz', "'zzzzzz'", 'k1, k2, k3')
  with pytest.raises(ValueError, match='Unknown kind'):
    registry.names('nothing')


def test_bad_options_are_named():
  refused('surrogate', 'clip(lo=0.1)', "'lo'", "Did you mean 'low'?", 'high')
  refused('surrogate', 'clip(1, 2, 3)', '3 positional', 'low, high')
  refused('surrogate', 'clip(0.1, low=0.2)', "'low' twice")
  refused('kl', 'k1(2)', '1 positional', 'none')
  refused('aggregate', 'constant', "write 'constant(n=...)'")
  refused('surrogate', 'clip(mask=1)', "'mask'")


def test_options_bind_by_order_and_by_name():
  score = np.array([1, 0, 0, 1], np.float32)
  valid = np.ones(4, bool)
  by_order = registry.get('estimator', 'grpo(1, 0)')
  by_name = registry.get('estimator', 'grpo(ddof=0, eps=1)')
  want = (score - 0.5) / (0.5 + 1)
  for fn in (by_order, by_name):
    np.testing.assert_allclose(fn(score, valid), want, rtol=1e-6)


def test_a_name_cannot_be_taken_twice():
  with pytest.raises(ValueError, match='registered twice'):
    registry.register('kl', 'k3')(lambda logp, logp_ref: logp)
  assert registry.get('kl', 'k3').__name__ == 'k3'


@pytest.mark.parametrize(
  ('kind', 'fn', 'says'),
  [
    ('env', lambda n: {}, r'env .new. takes n by .*new\(\*, option: type'),
    ('reward', lambda tasks, transcripts, limit=3: [], r'takes limit by posit'),
    (
      'estimator',
      lambda score, valid, eps=1.0: score,
      r'new\(score, valid, \*',
    ),
    ('kl', lambda a, b, c, d: a, 'takes c, d by position'),
  ],
)
def test_an_option_without_a_star_is_refused_when_registered(kind, fn, says):
  with pytest.raises(ValueError, match=says):
    registry.register(kind, 'new')(fn)
  assert 'new' not in registry.names(kind)


def test_a_wrong_signature_is_told_the_right_one():
  registry.register('reward', 'r_trl')(lambda completions: [])
  registry.register('estimator', 'of_scores')(lambda score: score)
  try:
    refused('reward', 'r_trl', 'write reward(tasks, transcripts, *, option: t')
    refused('estimator', 'of_scores', 'write estimator(score, valid, *, option')
  finally:
    del registry._FUNCTIONS['reward']['r_trl']
    del registry._FUNCTIONS['estimator']['of_scores']


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    ('strategies(chars=0123abc)', "text goes in quotes: chars='0123abc'"),
    ('jsonl(test_fraction=0.1, path=a/b.jsonl)', "path='a/b.jsonl'"),
  ],
)
def test_text_that_needs_quotes_is_shown_with_them(spec, says):
  with pytest.raises(ValueError, match='Bad spec') as info:
    registry.parse(spec)
  assert says in str(info.value)


@pytest.fixture
def outer():
  """A reward that takes rewards, for the time of a test."""

  @registry.register('reward')
  def outer(tasks, transcripts, *inner: registry.Spec, scale: float = 1.0):
    return [(scale, *inner)]

  yield
  del registry._FUNCTIONS['reward']['outer']


@pytest.mark.usefixtures('outer')
def test_specs_within_specs_arrive_as_checked_text():
  spec = 'outer(outcome, inverse(format( boxed)), scale=2)'
  got = registry.get('reward', spec)([], [])
  assert got == [(2, 'outcome', 'inverse(format( boxed))')]
  assert all(type(s) is registry.Spec for s in got[0][1:])
  assert list(registry.named('reward', spec)) == [
    'outer',
    'outcome',
    'inverse',
    'format',
  ]
  assert list(registry.named('reward', "format('inverse(x)')")) == ['format']


def test_specs_nest_to_a_bound():
  deep = 'inverse(' * registry.DEPTH + 'format(boxed)' + ')' * registry.DEPTH
  assert list(registry.named('reward', deep)) == ['inverse', 'format']
  refused('reward', f'inverse({deep})', 'Bad spec', 'deeper than')


@pytest.mark.usefixtures('outer')
def test_what_is_wrong_within_a_spec_is_said_when_it_is_looked_up():
  refused('reward', 'inverse(formt(boxed))', "'formt'", "'format'?", 'outcome')
  refused('reward', 'inverse(all_of(outcome, outcom))', "Unknown reward 'outco")
  refused('reward', 'inverse(format(patern=boxed))', "'patern'", 'pattern')
  refused('reward', 'inverse', 'needs reward', "'inverse(reward=...)'")
  refused('reward', 'inverse(3)', 'takes a reward by its name, not 3')
  refused('reward', 'outer(scale=2)', 'needs inner', 'one or more')
  refused('reward', 'outer(outcome, inner=outcome)', "no option 'inner'")


@pytest.mark.parametrize(
  ('kind', 'spec'),
  [
    ('surrogate', "clip(__import__('os'))"),
    ('surrogate', 'clip(open("x"))'),
    ('surrogate', 'clip(low=clip())'),
    ('reward', 'outcome(correct=outcome())'),
    ('env', 'reasoning_gym(chain_sum, size=f(1))'),
  ],
)
def test_a_call_is_refused_where_no_spec_is_asked_for(kind, spec):
  refused(kind, spec, 'Bad spec', 'is a call; write a literal')


def takes_many(
  data,
  *,
  flag: bool = False,
  count: int = 1,
  size: int | None = None,
  rate: float | int = 0.5,
  word: str = '',
  either: float | str | None = None,
  pair: tuple[int, int] = (1, 2),
  names: tuple[str, ...] = (),
  spread: int | tuple[int, int] = 3,
  free=None,
):
  return data


def bound(text):
  _, args, kwargs = registry.parse(f'f({text})')
  return registry.bind('thing', f'f({text})', takes_many, args, kwargs)


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('flag=false', False),
    ('flag=true', True),
    ('flag=False', False),
    ('true', True),
    ('count=3', 3),
    ('size=none', None),
    ('size=None', None),
    ('size=7', 7),
    ('rate=1', 1.0),
    ('rate=0', 0.0),
    ('word=none', 'none'),
    ('word=true', 'true'),
    ("word='a, b'", 'a, b'),
    ('either=none', 'none'),
    ('either=None', None),
    ('either=uniform', 'uniform'),
    ('either=1', 1.0),
    ('pair=[3, 4]', (3, 4)),
    ("names=('a', 'b')", ('a', 'b')),
    ('names=()', ()),
    ('spread=(1, 2)', (1, 2)),
    ('free=anything', 'anything'),
    ('free=[1, 2]', [1, 2]),
  ],
)
def test_values_are_read_by_their_annotations(text, want):
  (got,) = bound(text).values()
  assert got == want
  assert type(got) is type(want)


@pytest.mark.parametrize(
  'text',
  [
    "flag='false'",
    'flag=0',
    'flag=no',
    'flag=None',
    'count=1.0',
    'count=True',
    'count=x',
    'count=1' + '0' * 30,
    'size=false',
    'rate=x',
    'rate=nan',
    'rate=1e999',
    'rate=1e300',
    'rate=1e-300',
    'rate=True',
    'rate=None',
    'word=3',
    'word=True',
    "word='\\0'",
    "word='\\ud800'",
    'either=True',
    'pair=(1, 2, 3)',
    'pair=(1, 2.0)',
    'pair=1',
    "names='a'",
    "names=('a', 1)",
    'spread=(1,)',
    'rate=0x' + 'f' * 5000,
  ],
)
def test_values_of_another_type_are_refused_by_name(text):
  with pytest.raises(ValueError, match=text.partition('=')[0] + '=') as info:
    bound(text)
  assert len(str(info.value)) < 600


def test_a_bare_false_does_not_train_on_the_secrets_of_test():
  make = registry.get('env', 'guessing(all_secrets=false, games=200)')
  tasks = make()
  test = {t.answer for t in tasks['test']}
  assert not test & {tasks['train'][i].answer for i in range(200)}


def test_every_option_of_ours_has_an_annotation_that_is_checked():
  from rlvr_jax import annotations

  for kind in forms.MODULES:
    for name in registry.names(kind):
      for p in registry._parameters(registry._load(kind)[name]):
        if p.kind is not p.KEYWORD_ONLY or p.annotation is registry.Spec:
          continue
        known = map(annotations._is_known, annotations._options(p.annotation))
        assert all(known), f'{kind} {name}: {p}'


def test_both_specs_are_named_where_the_inner_one_is_wrong():
  refused(
    'reward',
    'inverse(outcome(corect=1))',
    "'inverse(outcome(corect=1))'",
    "'outcome(corect=1)'",
    "'corect'",
  )
  refused('reward', 'inverse(format(zig))', "pattern='zig'", 'inverse(')


def test_long_values_are_cut_in_messages():
  assert registry.show('ab') == "'ab'"
  text = registry.show('x' * 9000)
  assert len(text) < 230
  assert text.endswith('(9002 characters)')
  assert 'digits' in registry.show(10**5000)


def test_a_backslash_in_quotes_is_text():
  assert registry.parse(r"f('\d')") == ('f', [r'\d'], {})


def drawn(rng, depth=0, *, inside=False):
  """A value that an argument may have; `inside` a tuple, no spec."""
  kinds = ['none', 'bool', 'int', 'float', 'text', 'word']
  kinds += ['tuple', 'list'] * (depth < 3) + ['spec'] * (
    not inside and depth < 3
  )
  kind = rng.choice(kinds)
  match kind:
    case 'none':
      return None
    case 'bool':
      return rng.random() < 0.5
    case 'int':
      return rng.randint(-(10**20), 10**20) >> rng.randint(0, 60)
    case 'float':
      return rng.choice((-1, 1)) * rng.random() * 10.0 ** rng.randint(-300, 300)
    case 'text':
      odd = string.printable + 'é\u2028\0\ud800ﬁ'
      return ''.join(rng.choices(odd, k=rng.randint(0, 9)))
    case 'word':
      return rng.choice(
        ('boxed', 'none', 'True', 'TRUE', 'false', 'for', 'None', 'ﬁ', '_', 'x')
      )
    case 'spec':
      return registry.Spec(registry.spec('inner', *arguments(rng, depth + 1)))
  made = [drawn(rng, depth + 1, inside=True) for _ in range(rng.randint(0, 3))]
  return tuple(made) if kind == 'tuple' else made


def arguments(rng, depth=0):
  return [drawn(rng, depth) for _ in range(rng.randint(0, 3))]


def same(a, b):
  """Equal, and of one type: 1 is not True; a word is a string."""
  if isinstance(a, str):
    # A spec that is a bare name is a word, until a parameter asks for one.
    specs = [type(x) is registry.Spec and '(' in x for x in (a, b)]
    return a == b and specs[0] == specs[1]
  if isinstance(a, (tuple, list)):
    return type(a) is type(b) and all(map(same, a, b)) and len(a) == len(b)
  return type(a) is type(b) and repr(a) == repr(b)


def test_spec_is_the_inverse_of_parse():
  rng = random.Random(0)
  for _ in range(3000):
    name = rng.choice(('grpo', 'qwen2.5_7b', '_x'))
    args = arguments(rng)
    options = {key: drawn(rng) for key in rng.sample('abcdef', 2)}
    text = registry.spec(name, *args, **options)
    got_name, got_args, got_options = registry.parse(text)
    assert got_name == name
    assert same(got_args, args), text
    assert list(got_options) == list(options)
    assert all(same(got_options[k], options[k]) for k in options), text


@pytest.mark.parametrize(
  ('text', 'name', 'args', 'options'),
  [
    ('grpo', 'grpo', (), {}),
    ('grpo(eps=1e-06)', 'grpo', (), {'eps': 1e-6}),
    ('inverse(format(boxed))', 'inverse', (registry.Spec('format(boxed)'),), {}),
    ("similarity(think='none')", 'similarity', (), {'think': 'none'}),
    ('similarity(think=None)', 'similarity', (), {'think': None}),
    ("steps(patience=(0, 5), name='a b')", 'steps', (),
      {'patience': (0, 5), 'name': 'a b'}),
    ('weights(x=(1.0,))', 'weights', (), {'x': (1.0,)}),
  ],
)  # fmt: skip
def test_spec_writes_what_people_would(text, name, args, options):
  assert registry.spec(name, *args, **options) == text


@pytest.mark.parametrize(
  ('args', 'options'),
  [
    ((float('nan'),), {}),
    ((), {'a': float('inf')}),
    ((1, (0.0, float('-inf'))), {}),
    ((np.float64(0.5),), {}),
    ((np.zeros(2),), {}),
    (({'a': 1},), {}),
    ((1j,), {}),
    ((len,), {}),
    (((registry.Spec('f(1)'),),), {}),  # a call in a tuple is no literal
    ((registry.Spec('1, b=2'),), {}),
    ((registry.Spec('f('),), {}),
    ((), {'two words': 1}),
    ((), {'for': 1}),
    ((), {'ﬁ': 1}),  # Python reads it as fi
    (('x' * 20_000,), {}),
  ],
)
def test_what_no_literal_writes_is_refused(args, options):
  with pytest.raises(ValueError):
    registry.spec('f', *args, **options)


@pytest.mark.parametrize('name', ['', 'f(1)', 'two words', '1', 'f.', '(f)'])
def test_a_spec_needs_a_name(name):
  with pytest.raises(ValueError):
    registry.spec(name, 1)

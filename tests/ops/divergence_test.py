"""Divergences of a student from a teacher, against NumPy and by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import distillation
from rlvr_jax.ops import divergence as divergences

S, Q = (0.5, 0.3, 0.15, 0.05), (0.2, 0.6, 0.15, 0.05)


def get(spec):
  return registry.get('divergence', spec)()


value_and_slope = jax.jit(divergences.value_and_slope, static_argnums=3)
compare = jax.jit(
  distillation.compare,
  static_argnames=('divergence', 'shares', 'temperature', 'chunk'),
)


def measured(spec, p, q, target=0):
  """(value, gradient by the student's logits), of two distributions."""
  value, slope = value_and_slope(
    jnp.log(jnp.array([p])),
    jnp.log(jnp.array([q])),
    jnp.array([target]),
    get(spec),
  )
  return float(value[0]), np.asarray(slope[0])


def kl(p, q):
  return float(np.sum(p * (np.log(p) - np.log(q))))


def by_definition(p, q, alpha):
  """D_alpha in float64."""
  p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
  if alpha in (0, 1):
    return kl(p, q) if alpha else kl(q, p)
  m = (1 - alpha) * p + alpha * q
  return (1 - alpha) * kl(p, m) + alpha * kl(q, m)


def slope_by_differences(f, z, h=1e-5):
  z = np.asarray(z, np.float64)
  out = []
  for v in range(len(z)):
    step = h * np.eye(len(z))[v]
    out.append((f(z + step) - f(z - step)) / (2 * h))
  return np.array(out)


def softmax(z):
  e = np.exp(z - np.max(z))
  return e / e.sum()


@pytest.mark.parametrize(
  ('spec', 'value'),
  [
    ('reverse', 0.250201),
    ('forward', 0.232630),
    ('jsd', 0.058692),
    ('jsd(alpha=0.25)', 0.043549),
    ('jsd(alpha=0.05)', 0.011035),  # far from `forward`
    ('reverse(k=1)', 0.223144),
    ('reverse(k=2)', 0.250201),  # the tails agree
    ('reverse(k=2, tail=False)', 0.312752),
    ('reverse(k=4)', 0.250201),
    ('reverse(clip=0.1)', 0.1),
  ],
)
def test_known_values(spec, value):
  assert measured(spec, S, Q)[0] == pytest.approx(value, abs=1e-6)


def test_known_gradients():
  np.testing.assert_allclose(
    measured('reverse', S, Q)[1],
    [0.333045, -0.283005, -0.037530, -0.012510],
    atol=1e-6,
  )
  np.testing.assert_allclose(
    measured('forward', S, Q)[1], [0.3, -0.3, 0, 0], atol=1e-7
  )
  assert not measured('reverse(clip=0.1)', S, Q)[1].any()
  advantages = [-measured('sampled', S, Q, y)[0] for y in range(4)]
  np.testing.assert_allclose(advantages, [-0.916291, 0.693147, 0, 0], atol=1e-6)


def test_what_only_the_teacher_likes_is_invisible_to_the_student_s_tail():
  s, q = (0.4, 0.3, 0.2, 0.1), (0.4, 0.3, 0.05, 0.25)
  assert measured('reverse', s, q)[0] == pytest.approx(0.185630, abs=1e-6)
  assert measured('reverse(k=2)', s, q)[0] == pytest.approx(0, abs=1e-7)
  of_teacher = measured('reverse(k=3, of=teacher)', s, q)[0]
  assert of_teacher == pytest.approx(0.185630, abs=1e-6)


def test_the_example_of_opsd():
  s, q = (0.6, 0.3, 0.1), (0.15, 0.75, 0.1)
  for spec, value in (
    ('forward', 0.479274),
    ('reverse', 0.556889),
    ('jsd', 0.122090),
  ):
    assert measured(spec, s, q)[0] == pytest.approx(value, abs=1e-6)
  gaps = [-measured('sampled', s, q, y)[0] for y in range(3)]
  np.testing.assert_allclose(gaps, [-1.386294, 0.916291, 0], atol=1e-6)


def test_temperature_and_trust_region():
  # The teacher's logits, of one model and of two: q ~ ref^(1-a) live^a.
  hidden, eye = jnp.eye(3)[:1], jnp.eye(3)
  head = jnp.array([[2.0], [1.0], [0.0]]) * jnp.eye(3)[:1]
  other = head[::-1]
  token = jnp.zeros(1, jnp.int32)
  for temperature, value in ((1.0, 1.1504), (2.0, 0.3202)):
    out = compare(
      hidden,
      head,
      hidden,
      other,
      token,
      divergence=get('reverse'),
      temperature=temperature,
    )
    assert float(out.divergence[0]) == pytest.approx(value, abs=1e-4)
  ref, live = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]))
  for y, q in enumerate((0.441061, 0.441061, 0.117878)):
    out = compare(
      jnp.zeros((1, 3)),
      eye,
      ref[None],
      eye,
      live[None],
      eye,
      jnp.array([y]),
      divergence=get('reverse'),
      shares=(0.5, 0.5),
    )
    assert float(jnp.exp(out.logq[0])) == pytest.approx(q, abs=1e-6)


def expected(spec, z, q):
  """The divergence of softmax(z) from q in float64, as the module says."""
  made, p = get(spec), softmax(z)
  q = np.asarray(q, np.float64)
  if made.k:
    # Which tokens count is not differentiated.
    by = softmax(Z) if made.of == 'student' else q
    at = np.argsort(-by, kind='stable')[: made.k]
    rest = np.setdiff1d(np.arange(len(q)), at)
    cut = lambda x: (
      np.append(x[at], x[rest].sum()) if made.tail else x[at] / x[at].sum()
    )
    p, q = cut(p), cut(q)
  alpha = made.alpha
  m = {0.0: p, 1.0: q}.get(alpha, (1 - alpha) * p + alpha * q)
  terms = (1 - alpha if 0 < alpha < 1 else alpha) * p * np.log(p / m)
  terms = terms + (alpha if 0 < alpha < 1 else 1 - alpha) * q * np.log(q / m)
  if made.entry_clip:
    terms = np.minimum(terms, made.entry_clip)
  return terms.sum()


Z = np.array([0.3, -1.2, 2.0, 0.9, -0.4, 1.1])


@pytest.mark.parametrize('name', ['forward', 'reverse', 'jsd(alpha=0.3'])
@pytest.mark.parametrize(
  'options',
  [
    '',
    'k=3',
    'k=3, tail=False',
    'k=2, of=teacher',
    'k=4, of=teacher, tail=False',
    'entry_clip=0.02',
    'k=3, entry_clip=0.05',
  ],
)
def test_values_and_gradients_are_those_of_the_definition(name, options):
  base, _, alpha = name.partition('(')
  spec = f'{base}({", ".join(filter(None, (alpha, options)))})'
  q = softmax(np.array([1.0, 0.2, -0.7, 1.4, 0.1, -2.0]))
  value, slope = measured(spec, softmax(Z), q)
  assert value == pytest.approx(expected(spec, Z, q), rel=1e-5, abs=1e-6)
  want = slope_by_differences(lambda z: expected(spec, z, q), Z)
  np.testing.assert_allclose(slope, want, atol=2e-6)


@pytest.mark.parametrize('alpha', [0.0, 0.05, 0.5, 0.95, 1.0])
def test_alpha_against_independent_code(alpha):
  rng = np.random.default_rng(0)
  spec = {0.0: 'forward', 1.0: 'reverse'}.get(alpha, f'jsd(alpha={alpha})')
  for _ in range(5):
    z, q = rng.normal(size=9) * 3, softmax(rng.normal(size=9) * 3)
    value, _ = measured(spec, softmax(z), q)
    assert value == pytest.approx(
      by_definition(softmax(z), q, alpha), rel=2e-5, abs=1e-6
    )


def test_the_sampled_form_is_the_reverse_gradient_in_the_mean():
  _, exact = measured('reverse', S, Q)
  slopes = [measured('sampled', S, Q, y) for y in range(4)]
  mean = sum(p * slope for p, (_, slope) in zip(S, slopes, strict=True))
  np.testing.assert_allclose(mean, exact, atol=1e-7)
  value = sum(p * v for p, (v, _) in zip(S, slopes, strict=True))
  assert value == pytest.approx(measured('reverse', S, Q)[0], abs=1e-6)


@pytest.mark.parametrize(
  ('spec', 'learns'), [('forward', True), ('reverse', False), ('jsd', False)]
)
def test_who_teaches_what_is_never_sampled(spec, learns):
  """From p = 6e-6, where 64 samples are all wrong: outcome has no gradient.

  Nor has a divergence whose terms the policy weighs: its slope there is about
  p log p.
  """
  logq = jnp.log(jnp.array([[0.01, 0.01, 0.01, 0.97]]))
  divergence = get(spec)

  def step(z, _):
    _, slope = divergences.value_and_slope(
      jax.nn.log_softmax(z), logq, jnp.zeros(1, int), divergence
    )
    return z - 3.0 * slope, None

  start = jnp.array([[5.0, 5.0, 5.0, -6.0]])
  z, _ = jax.jit(lambda z: jax.lax.scan(step, z, None, 400))(start)
  assert float(jax.nn.softmax(start)[0, 3]) < 1e-5
  assert (float(jax.nn.softmax(z)[0, 3]) > 0.9) == learns


def test_the_gate_attenuates_what_the_teacher_rejects():
  beta, d = 5.0, np.log(0.2 / 0.5)
  gate = 1 / (1 + np.exp(-beta * d))
  value, slope = measured('gated', S, Q)
  assert value == pytest.approx(gate * d, rel=1e-5)
  want = -gate * (np.eye(4)[0] - np.array(S))
  np.testing.assert_allclose(slope, want, rtol=1e-5)
  assert measured('gated', S, S)[1][0] == pytest.approx(-0.5 * 0.5)


NAMED = [
  'forward',
  'reverse',
  'jsd',
  'jsd(alpha=0.05)',
  'reverse(k=3)',
  'reverse(k=3, tail=False)',
  'forward(k=3, of=teacher)',
  'jsd(k=3, tail=False)',
  'reverse(entry_clip=0.5)',
  'forward(entry_clip=0.5)',
  'sampled',
  'sampled(clip=5.0)',
]


@pytest.mark.parametrize('spec', NAMED)
def test_equal_distributions_give_exactly_zero(spec):
  rng = np.random.default_rng(1)
  hidden = jnp.asarray(rng.normal(size=(2, 7, 5)), jnp.float32)
  head = jnp.asarray(rng.normal(size=(11, 5)), jnp.float32)
  tokens = jnp.asarray(rng.integers(0, 11, (2, 7)))

  def loss(hidden, head, chunk):
    out = compare(
      hidden, head, hidden, head, tokens, divergence=get(spec), chunk=chunk
    )
    return out.divergence.sum()

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), static_argnums=2)
  for chunk in (3, 1024) if spec == 'reverse' else (1024,):
    value, grads = run(hidden, head, chunk)
    assert value == 0
    assert not any(np.asarray(g).any() for g in grads)


@pytest.mark.parametrize('spec', ['forward', 'reverse(k=3)', 'gated'])
def test_chunks_and_temperature_change_nothing(spec):
  """Against the plain formula, differentiated through the matrix product."""
  rng = np.random.default_rng(2)
  of = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  hidden, head, other, other_head = (
    of(3, 7, 5),
    of(11, 5),
    of(3, 7, 4),
    of(11, 4),
  )
  tokens = jnp.asarray(rng.integers(0, 11, (3, 7)))
  weight = of(3, 7)

  def loss(hidden, head, other, chunk):
    out = compare(
      hidden,
      head,
      other,
      other_head,
      tokens,
      divergence=get(spec),
      temperature=0.7,
      chunk=chunk,
    )
    # Only the divergence has a gradient.
    total = (weight * out.divergence).sum()
    return total + out.logq.sum() + out.entropy.sum(), out

  run = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
  run = jax.jit(run, static_argnums=3)
  (_, whole), grads = run(hidden, head, other, 1024)
  logits = lambda x, w: (x.reshape(-1, x.shape[-1]) @ w.T) / 0.7
  logp, logq = (
    jax.nn.log_softmax(logits(*a))
    for a in ((hidden, head), (other, other_head))
  )
  value, slope = value_and_slope(logp, logq, tokens.reshape(-1), get(spec))
  np.testing.assert_allclose(whole.divergence.reshape(-1), value, atol=1e-5)
  np.testing.assert_allclose(
    whole.entropy.reshape(-1), -(jnp.exp(logq) * logq).sum(-1), rtol=1e-5
  )
  dz = weight.reshape(-1, 1) * slope / 0.7
  np.testing.assert_allclose(
    grads[0], (dz @ head).reshape(hidden.shape), atol=1e-5
  )
  assert not np.asarray(grads[2]).any()  # the teacher is a constant
  (_, parts), some = run(hidden, head, other, 6)
  np.testing.assert_allclose(parts.divergence, whole.divergence, atol=1e-5)
  for a, b in zip(some, grads, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_extreme_logits_stay_finite():
  z = jnp.array([[300.0, -300.0, 0.0, -1e4]])
  for spec in ('forward', 'reverse(k=3)', 'jsd', 'gated'):
    a = jax.nn.log_softmax(jnp.concatenate([z, z, -z]))
    b = jax.nn.log_softmax(jnp.concatenate([-z, z[:, ::-1], z]))
    value, slope = value_and_slope(a, b, jnp.ones(3, int), get(spec))
    assert np.isfinite(value).all(), spec
    assert np.isfinite(slope).all(), spec


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('jsd(alpha=0.0)', "Take 'forward' for 0"),
    ('jsd(alpha=1.0)', "'reverse' for 1"),
    ('jsd(alpha=1.5)', 'alpha=1.5'),
    ('reverse(k=-1)', 'k=-1'),
    ('reverse(k=1, tail=False)', 'at least 2'),
    ('reverse(of=both)', "of='both'"),
    ('forward(clip=-1.0)', 'clip=-1'),
    ('sampled(clip=-1.0)', 'clip=-1'),
    ('gated(beta=0.0)', 'beta=0'),
    ('revers', "Did you mean 'reverse'"),
  ],
)
def test_bad_options_are_refused(spec, message):
  with pytest.raises(ValueError, match=message):
    get(spec)

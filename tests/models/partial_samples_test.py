import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.enums import Stop
from rlvr_jax.models import partial_samples, sampler, sharding, transformer

MODEL = transformer.Decoder(
  registry.get('model', 'tiny(layers=1, width=32, vocab=64)')()
)
P, GROUP = 4, 4


@pytest.mark.parametrize('devices', [(1, 1, 1), (1, 2, 2)])
def test_parts_end_with_what_one_program_samples(devices, monkeypatch):
  """Bit for bit, in a batch that shrinks and in one over several devices."""
  mesh = sharding.make_mesh(devices, jax.devices()[: np.prod(devices)])
  rng = np.random.default_rng(0)
  prompt = rng.integers(1, 64, (P, 5)).astype(np.int32)
  compact = mesh.size == 1
  if compact:  # as of longer rows, with one size less to compile
    monkeypatch.setattr(sampler, 'sizes', lambda rows, _: (rows, rows // 2))
  sampling = sampler.Sampling(20, (1, 2, 3), compact_batch=compact)
  with sharding.use(mesh):
    params = sharding.init_params(MODEL, jax.random.key(1), mesh)
    args = (
      sharding.to_sampler(MODEL, mesh)(params),
      sharding.to_mesh(prompt),
      sharding.to_mesh(np.array([5, 3, 4, 1], np.int32)),
      jax.random.key(2),
    )
    options = {'model': MODEL, 'sampling': sampling, 'group': GROUP}
    whole = sharding.to_host(sampler.sample(*args, **options))
    before = partial_samples._go_on._cache_size()
    parts = sharding.to_host(list(partial_samples.sample(*args, **options)))
    if mesh.size > 1:  # one program for all parts
      assert partial_samples._go_on._cache_size() == before + 1
  jax.tree.map(np.testing.assert_array_equal, parts[-1], whole)
  assert (whole.stop != Stop.NONE).all()
  assert len(np.unique(whole.length)) > 4
  going = [int((p.stop == Stop.NONE).sum()) for p in parts]
  assert 0 < going[0] <= P * GROUP // 2
  assert going == sorted(going, reverse=True)
  for part in parts:  # rows that have ended are final
    ended = part.stop != Stop.NONE
    for name in whole._fields:
      got, want = getattr(part, name), getattr(whole, name)
      np.testing.assert_array_equal(got[ended], want[ended])

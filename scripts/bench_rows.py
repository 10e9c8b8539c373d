"""What does a row cost by its length? Attention in blocks against dense.

    python scripts/bench_rows.py [--model=smollm2_135m] [--layers=N] \\
        [--tokens=1024,2048,4096,8192] [--kinds=dense,blocked] [--repeats=1]

Forward and backward pass of one row through the layers, random weights,
float32, layers recomputed: CPU seconds (the least of repeats, kinds in turns),
and the memory of temporaries by the compiler's count. The head, which is the
same for all kinds, is left out. Arithmetic does not depend on the weights.
`splash` off a TPU is interpreted: its seconds say nothing.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import config as config_lib
from rlvr_jax import registry
from rlvr_jax.models import sharding, transformer


def program(config, kind: str, tokens: int):
  """(compiled gradient of a mean over hidden states, parameters' shapes)."""
  model = transformer.Decoder(config, remat=True, attention=kind)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  shapes, _ = sharding.params_shardings(model, mesh)

  def loss(params, row):
    (hidden,) = model.apply({'params': params}, row)
    return jnp.square(hidden).mean()

  row = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
  return jax.jit(jax.grad(loss)).lower(shapes, row).compile(), shapes


def measure(config, kinds: Sequence[str], tokens: int, repeats: int):
  """{kind: (seconds, GiB of temporaries)} for one length."""
  made = {kind: program(config, kind, tokens) for kind in kinds}
  rng = np.random.default_rng(0)
  shapes = made[kinds[0]][1]
  params = jax.tree.map(
    lambda x: jnp.asarray(0.02 * rng.standard_normal(x.shape, np.float32)),
    shapes,
  )
  row = jnp.asarray(rng.integers(0, config.vocab_size, (1, tokens)), jnp.int32)
  seconds = {kind: float('inf') for kind in kinds}
  for _ in range(repeats):
    for kind in kinds:
      started = time.process_time()
      jax.block_until_ready(made[kind][0](params, row))
      took = time.process_time() - started
      seconds[kind] = min(seconds[kind], took)
  temporaries = {
    kind: compiled.memory_analysis().temp_size_in_bytes / 2**30
    for kind, (compiled, _) in made.items()
  }
  return {kind: (seconds[kind], temporaries[kind]) for kind in kinds}


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', default='smollm2_135m')
  parser.add_argument('--layers', type=int, default=0, help='0: all')
  parser.add_argument('--tokens', default='1024,2048,4096,8192')
  parser.add_argument('--kinds', default='dense,blocked')
  parser.add_argument('--repeats', type=int, default=1)
  flags = parser.parse_args(argv)
  config = registry.get('model', flags.model)()
  if flags.layers:
    config = dataclasses.replace(config, num_layers=flags.layers)
  kinds = flags.kinds.split(',')
  print(f'{flags.model}, {config.num_layers} layers, {jax.devices()[0]}')
  print('CPU seconds and GiB of temporaries of one row, and their ratios')
  for tokens in map(int, flags.tokens.split(',')):
    got = measure(config, kinds, tokens, flags.repeats)
    cells = [f'{k} {s:.2f} s {g:.3f} GiB' for k, (s, g) in got.items()]
    base = got[kinds[0]]
    cells += [
      f'{k}/{kinds[0]} {s / base[0]:.2f} {g / base[1]:.3f}'
      for k, (s, g) in list(got.items())[1:]
    ]
    print(f'{tokens:6d}  ' + '  '.join(cells), flush=True)
  return 0


if __name__ == '__main__':
  raise SystemExit(main())

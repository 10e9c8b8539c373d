"""Where do the seconds of W1 go? A trace of sampling and of an update.

    python scripts/bench_parts.py [--model=smollm2] [--repeats=1]

4 prompts x 8 samples x 64 tokens, one AdamW step, as in scripts/bench.py, on a
CPU. Prints the seconds of XLA's operations by kind, and their share. `products`
are matrix products with what is fused into them; no implementation of the same
mathematics can leave them out.
"""

import argparse
import collections
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence

import bench_ours
import jax
import numpy as np
from bench_ours import common
from jax.profiler import ProfileData

from rlvr_jax import algorithm, experiment, types
from rlvr_jax import config as config_lib
from rlvr_jax.io import load
from rlvr_jax.learner import train_step
from rlvr_jax.models import sampler, sharding
from rlvr_jax.rollouts import single_turn

NEVER = -7  # an end token that is not sampled
# Kinds by the names of XLA's operations, the first that fits.
KINDS = {
  'products': r'ynn_fusion|dot|convolution',
  'copies, slices, concatenations': r'copy|slice|concatenate|transpose|gather|pad',
  'zeros and sums of gradients': r'wrapped_broadcast|wrapped_add|scatter',
  'norms and checks of an update': r'is-finite|compare|reduce-window',
  'AdamW, softmax and other arithmetic': r'',
}
# Events that contain others, and Python's.
_OUTER = r'Thunk|\$|Pjit|while|call|conditional|CommonPj|Slinky|Parse|Allocate|Handle|end: '


def seconds(run: Callable[[], None]) -> collections.Counter:
  """Seconds of XLA's operations by kind, while `run` runs."""
  found: collections.Counter = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    for plane in ProfileData.from_file(str(path)).planes:
      for line in plane.lines:
        for event in line.events:
          if not re.match(_OUTER, event.name):
            kind = next(k for k, r in KINDS.items() if re.search(r, event.name))
            found[kind] += event.duration_ns / 1e9
  return found


def works(model: str) -> dict[str, Callable[[], None]]:
  """The two things to trace, compiled."""
  work = common.WORKS['W1']
  given = argparse.Namespace(work=work, model=model, dtype='float32')
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  x = experiment.Experiment(bench_ours.settings(given), mesh)
  built, rng = x.programs, np.random.default_rng(0)
  params = load.load(model, dtype='float32').params
  state = train_step.new_state(
    sharding.put_params(params, built.model, mesh),
    tx=built.tx,
    trainable='.*',
    abstract=built.abstract,
  )
  vocabulary = built.model.config.vocab_size
  prompt = rng.integers(0, vocabulary, (4, 64)).astype(np.int32)
  length = np.array(work.cases[0].prompt_tokens, np.int32)
  prompt[np.arange(64)[None] < 64 - length[:, None]] = 0

  def sample():
    sampling = sampler.Sampling(64, (NEVER,), 1.0, compact_batch=True)
    out = sampler.sample(
      built.to_sampler(state.params),
      prompt,
      length,
      jax.random.key(0),
      model=built.model,
      sampling=sampling,
      group=8,
    )
    return jax.tree.map(np.asarray, out)

  rollout = single_turn.to_rollout(prompt, length, sample(), 8)
  score = types.Score(
    reward=rng.standard_normal((4, 8, 1)).astype(np.float32),
    turns=np.ones((4, 8, 1), bool),
    belief=None,
    verdict=np.zeros((4, 8), np.int32),
  )
  adv = np.asarray(algorithm.advantages(x.algorithm, rollout, score))
  batch = sharding.from_host(types.flatten(rollout, adv), sharding.rows(mesh))

  def update():
    nonlocal state
    state, _ = built.update(state, (batch,))
    jax.block_until_ready(state)

  update()
  return {'sampling': sample, 'update': update}


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--repeats', type=int, default=1)
  flags = parser.parse_args(argv)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  with sharding.use(mesh):
    for name, run in works(flags.model).items():
      for _ in range(flags.repeats):
        found = seconds(run)
        total = sum(found.values())
        print(f'{name}: {total:.1f} s')
        for kind, s in found.most_common():
          print(f'  {s:6.2f} s  {s / total:5.1%}  {kind}')
  return 0


if __name__ == '__main__':
  raise SystemExit(main())

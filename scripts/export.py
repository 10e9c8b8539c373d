"""Writes the model of a run for other programs: whole, or its adapters alone.

    python scripts/export.py --workdir=DIR --out=FOLDER [--step=N]
        [--format=merged|peft] [--dtype=float32|bfloat16]

merged: a Hugging Face folder with config, weights and tokenizer; adapters of
model.lora are added to the weights. peft: adapter_config.json and
adapter_model.safetensors of a run with model.lora, as
`peft.PeftModel.from_pretrained(base, FOLDER)` loads them; a run starts from
them with --config.model.adapter=FOLDER. Without --step it is the best
checkpoint of a run with keep_best, else the newest. The value head of a critic
or reward model is in neither.
"""

import argparse
import sys
from collections.abc import Sequence

from rlvr_jax import config as config_lib


def write(
  workdir: str, out: str, step: int | None, kind: str, dtype: str
) -> int:
  """Writes the export; returns the step of the checkpoint."""
  from rlvr_jax.io import adapters, checkpoint, export, load
  from rlvr_jax.models import lora

  if kind == 'merged':
    loaded = load.read(workdir, dtype=dtype, step=step)
    export.export(out, loaded.config, loaded.params, loaded.tokenizer)
    return loaded.step
  c = config_lib.of_run(workdir, ())
  if step is None and c.keep_best:
    step = checkpoint.best(workdir, 'score')
  made = lora.of(c.model.lora)
  if made is None:
    raise ValueError(
      f"{workdir} has trained all weights (model.lora is ''), so there is no "
      'adapter: take --format=merged.'
    )
  architecture = load.load_config(c.model.name)
  own, _, step = adapters.of_run(workdir, architecture, made, step=step)
  adapters.write(out, architecture, made, own, c.model.name)
  return step


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--out', required=True, metavar='FOLDER')
  parser.add_argument('--step', type=int, metavar='N', help='of a checkpoint')
  parser.add_argument('--format', choices=('merged', 'peft'), default='merged')
  parser.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    default='float32',
    help='of merged weights',
  )
  flags = parser.parse_args(argv)
  step = write(flags.workdir, flags.out, flags.step, flags.format, flags.dtype)
  print(f'Wrote step {step} of {flags.workdir} to {flags.out}')
  return 0


if __name__ == '__main__':
  sys.exit(main())

"""Shared by all sides of the benchmark: the work, the proof, the records.

Imported in three environments (ours, Tunix's, TRL's): only the standard
library and NumPy. A side is a program, run in a process of its own:

  SIDE.py --work W1 --model DIR --steps N --warmup N --out FILE.jsonl
          [--seed S] [--max-new N]

  --work    W1 | W2 | W3, an entry of `WORKS`.
  --model   the folder that `write_checkpoint` in scripts/bench.py wrote:
            config.json, model.safetensors (float32), tokenizer.json and
            reference_logits.npy (of `CHECK_PROMPT`).
  --steps   measured steps of each case.
  --warmup  steps of each case before them (compilation), at least 1.
  --seed    of the sampling; steps must differ from one another.
  --max-new caps the new tokens of every case: a trial of the machinery,
            not the work. 0: the work's own length.

`parse` reads these; our own side has `--dtype` besides. The program

1. loads the model and calls `prove`, which ends the program with exit code 3
   unless it is the right model: no timing of another model is a comparison;
2. makes `record = recorder(args, proof, ...)`, which writes the proof;
3. calls `record(case, ...)` at the end of every step, warm-up first. A step
   lasts from the end of the one before it, everything included. W1 and W2
   train on `case`; W3 only samples, first both cases' warm-up, then both
   cases in turns.

What a step is: `case.prompts` in order, each `case.samples` times, tokenised
with `<|im_start|>` and `<|im_end|>` read as tokens and nothing added;
temperature 1 over the whole vocabulary; up to `case.max_new` tokens until
`work.stop` is sampled; text decoded. Training adds `digit_share` of the text
as the reward, GRPO advantages (per group, divided by the standard deviation),
one AdamW step at `LEARNING_RATE` without decay on all samples at once: mean
over a sequence's tokens, then over sequences; no KL, no checkpointing of
activations, no clipping of the gradient.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import time
from typing import NamedTuple, NoReturn

import numpy as np

LEARNING_RATE = 1e-6
PAD = '<jupyter_script>'  # peers find padding by comparing tokens with it
NEVER = '<reponame>'  # a stop token that is never sampled (p < 1e-7)
END = '<|im_end|>'
REFERENCE = 'reference_logits.npy'  # of CHECK_PROMPT, in the model's folder
REFUSED = 3  # exit code: this is not the model, or not the work

_CHAT = (
  '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, '
  'trained by Hugging Face<|im_end|>\n'
  '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n'
)


class Case(NamedTuple):
  """Sampling of one shape."""

  name: str
  prompts: tuple[str, ...]
  prompt_tokens: tuple[int, ...]  # their exact lengths, asserted by each side
  samples: int  # of each prompt
  max_new: int


class Work(NamedTuple):
  """One benchmark: its cases, whether they are trained on, a stop token."""

  cases: tuple[Case, ...]
  train: bool
  stop: str


def chat(question: str) -> str:
  """The model's chat template, written out: peers need no template engine."""
  return _CHAT.format(question)


_W1_PROMPTS = (
  chat(
    'A train leaves at nine and travels 60 miles in each hour. After 2 hours '
    'it stops for a lunch. How many miles has it gone by then?'
  ),
  chat('A box holds 12 eggs. How many eggs do 7 such boxes hold?'),
  chat('What is 57 * 8 - 3?'),
  chat('What is 9 * 8?'),
)
_W1_TOKENS = (64, 48, 42, 38)
# Four different questions: no prefix to share beyond a group.
_W2_PROMPTS = tuple(
  chat(f'What is {x}?') for x in ('57 * 8', '64 * 7', '38 * 9', '76 * 6')
)

WORKS = {
  'W1': Work(
    (Case('4 x 8 x 64', _W1_PROMPTS, _W1_TOKENS, 8, 64),), True, NEVER
  ),
  'W2': Work((Case('4 x 8 x 256', _W2_PROMPTS, (39,) * 4, 8, 256),), True, END),
  'W3': Work(
    (
      Case('32 x 64', _W1_PROMPTS, _W1_TOKENS, 8, 64),
      Case('1 x 128', _W1_PROMPTS[:1], _W1_TOKENS[:1], 1, 128),
    ),
    False,
    NEVER,
  ),
}

CHECK_PROMPT = _W1_PROMPTS[0]
CHECK_QUESTION = chat('What is 2+2?')
CHECK_NEW = 24  # greedy tokens, until END
CHECK_TOLERANCE = 1e-3


def parse(argv=None, dtype: bool = False) -> argparse.Namespace:
  """Arguments of a side; `args.work` is a `Work`, capped by --max-new."""
  p = argparse.ArgumentParser()
  p.add_argument('--work', required=True, choices=WORKS)
  p.add_argument('--model', required=True, type=pathlib.Path)
  p.add_argument('--steps', type=int, required=True)
  p.add_argument('--warmup', type=int, required=True)
  p.add_argument('--out', required=True, type=pathlib.Path)
  p.add_argument('--seed', type=int, default=0)
  p.add_argument('--max-new', type=int, default=0)
  if dtype:
    p.add_argument('--dtype', default='float32')
  args = p.parse_args(argv)
  if args.steps < 1 or args.warmup < 1:
    p.error('--steps and --warmup must be at least 1')
  args.name, args.work = args.work, capped(WORKS[args.work], args.max_new)
  return args


def dtype_of(args) -> str:
  """The dtype of a side: only ours has the option, peers use float32."""
  return vars(args).get('dtype', 'float32')


def capped(work: Work, max_new: int) -> Work:
  """The same work with at most `max_new` new tokens; 0 changes nothing."""
  if not max_new:
    return work
  cases = (c._replace(max_new=min(c.max_new, max_new)) for c in work.cases)
  return work._replace(cases=tuple(cases))


def turns(args) -> list[Case]:
  """The case of every step, in order."""
  return list(args.work.cases) * (args.warmup + args.steps)


def digit_share(text: str) -> float:
  """The reward: the share of ASCII digits among the text's characters."""
  return sum(c in '0123456789' for c in text) / max(len(text), 1)


def refuse(why: str) -> NoReturn:
  """Ends this side: it has another model or does other work."""
  print(f'Refused: {why}', flush=True)
  sys.exit(REFUSED)


def check_prompts(args, encode) -> None:
  """Refuses unless `encode(text)` gives the prompts' known lengths."""
  for case in args.work.cases:
    lengths = tuple(len(encode(p)) for p in case.prompts)
    if lengths != case.prompt_tokens:
      refuse(
        f'{case.name}: prompts have {lengths} tokens instead of '
        f'{case.prompt_tokens}; the tokenizer differs.'
      )


def prove(args, logits, answer: str) -> dict:
  """Ends this side if the model is a wrong one; returns the evidence.

  Args:
    args: of `parse`.
    logits: f32[T,V] of CHECK_PROMPT.
    answer: greedy text after CHECK_QUESTION, at most CHECK_NEW tokens.
  """
  reference = np.load(args.model / REFERENCE)
  logits = np.asarray(logits, np.float32)
  if logits.shape != reference.shape:
    refuse(
      f'logits have shape {logits.shape}, the reference {reference.shape}.'
    )
  worst = float(np.abs(logits - reference).max())
  tolerance = CHECK_TOLERANCE
  if dtype_of(args) != 'float32':
    # Half precision is off by a few percent of the logits' spread.
    tolerance = 0.1 * float(reference.std())
  if not worst <= tolerance:
    refuse(
      f'logits differ from the reference by {worst:.3g}, more than '
      f'{tolerance:.3g}: this is not the model of {args.model}.'
    )
  if '4' not in answer:
    refuse(f"greedy answer to 'What is 2+2?' is {answer!r}, without a 4.")
  return {'logits_max_diff': worst, 'answer': answer}


def recorder(args, proof: dict, *, versions: dict[str, str], backend: str):
  """The function to call at the end of every step.

  Args:
    args: of `parse`.
    proof: of `prove`.
    versions: {package: version}, kept with the proof.
    backend: the device that computes, such as 'cpu'.

  Returns:
    record(case, lengths=[...], rollout_s=..., train_s=..., reward=...):
    lengths are the sampled tokens of each row (the stop token counts),
    reward the batch's mean, or None in W3.
  """
  never_stops = args.work.stop == NEVER
  left = {c.name: args.warmup for c in args.work.cases}
  state = {'time': time.perf_counter(), 'cpu': os.times(), 'run': 0.0}

  def write(line, mode='a'):
    with args.out.open(mode) as out:
      out.write(json.dumps(line) + '\n')

  def record(case, *, lengths, rollout_s, train_s=0.0, reward=None):
    now, cpu = time.perf_counter(), os.times()
    peak = peak_gib()
    rows = case.samples * len(case.prompts)
    short = never_stops and sum(lengths) < 0.99 * rows * case.max_new
    if len(lengths) != rows or short:
      refuse(
        f'{case.name}: {len(lengths)} rows, {sum(lengths)} tokens instead of '
        f'{rows} rows of {case.max_new}.'
      )
    warmup = left[case.name] > 0
    left[case.name] -= 1
    state['run'] = max(state['run'], peak)
    write(
      {
        'kind': 'step',
        'case': case.name,
        'warmup': warmup,
        'step_s': now - state['time'],
        'rollout_s': rollout_s,
        'train_s': train_s,
        'tokens': int(sum(lengths)),
        'longest': int(max(lengths)),
        'cpu_user_s': cpu.user - state['cpu'].user,
        'cpu_system_s': cpu.system - state['cpu'].system,
        'reward': reward,
        'peak_rss_gib_steady': None if warmup else peak,
        'peak_rss_gib_run': state['run'],
      }
    )
    if warmup:
      reset_peak()
    state['time'], state['cpu'] = time.perf_counter(), os.times()

  about = {'versions': versions, 'backend': backend, 'dtype': dtype_of(args)}
  write({'kind': 'proof', **proof, **about}, 'w')
  state['time'], state['cpu'] = time.perf_counter(), os.times()
  return record


def peak_gib() -> float:
  """Peak resident memory since the start or the last `reset_peak`, GiB."""
  try:
    status = pathlib.Path('/proc/self/status').read_text()
  except OSError:  # no Linux: the peak of the whole run
    unit = 1 if sys.platform == 'darwin' else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak / 2**30
  line = next(x for x in status.splitlines() if x.startswith('VmHWM'))
  return int(line.split()[1]) / 2**20


def reset_peak() -> None:
  """Makes `peak_gib` count from now, if the system can (Linux)."""
  try:
    pathlib.Path('/proc/self/clear_refs').write_text('5')
  except OSError:
    return

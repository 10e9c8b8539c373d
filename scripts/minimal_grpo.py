"""GRPO from end to end in one file: a tiny model learns tiny sums.

  python scripts/minimal_grpo.py [--steps=N] [--seed=N]

A byte-level transformer of random weights is asked 'What is 2 * 1 + 2?' and
answers with one byte. Nobody shows it a right answer: it samples, is told which
samples were right, and makes these more likely. A minute or two on a CPU.

Read this first, then rlvr_jax/train.py, which does the same with checkpoints,
several devices, dialogues, critics and configs. What it is made of is what this
file imports: pure functions, which train.py composes from a config.

Letters: P prompts, G samples of each, B = P*G rows, S prompt tokens, N new
tokens, T = S + N tokens of a row.
"""

import argparse
import functools

import flax.linen as nn
import jax
import numpy as np
import optax

from rlvr_jax.envs.arithmetic import arithmetic
from rlvr_jax.io.tokenizer import byte_level
from rlvr_jax.models.model_config import tiny
from rlvr_jax.models.sampler import Sampling, sample
from rlvr_jax.models.token_logprobs import token_logprobs
from rlvr_jax.models.transformer import Decoder, init, unstack
from rlvr_jax.ops.aggregate import token_mean
from rlvr_jax.ops.estimators import grpo
from rlvr_jax.ops.ratio import divide
from rlvr_jax.ops.surrogate import clip

# Every question has 18 bytes, every answer is one digit, without an end token.
P, G, S, N = 16, 64, 18, 1
MODEL = Decoder(tiny())
TOKENIZER = byte_level()
TASKS = arithmetic(max_value=2, terms=3, ops='+*', instruction='')


def encode(tasks):
  """Prompts i32[P,S], right-padded, and their lengths i32[P]."""
  ids = [TOKENIZER.encode(task.question) for task in tasks]
  length = np.array([len(x) for x in ids], np.int32)
  prompt = np.zeros((len(tasks), S), np.int32)
  for row, x in zip(prompt, ids, strict=True):
    row[: len(x)] = x
  return prompt, length


def reward(task, completion) -> float:
  """1 for the right answer, else 0: a reward that can be verified."""
  return float(TOKENIZER.decode(completion) == task.answer)


def collect(params, tasks, key) -> dict:
  """Samples G answers to each of P tasks and says how good they are.

  Returns:
    the batch that the loss sees; all but `tokens` are 0 outside `mask`:
    tokens i32[B,T], mask bool[B,T] (sampled tokens), adv and logp_old f32[B,T];
    reward f32[P,G] besides.
  """
  # Sample y ~ pi(y | x), with the log-probs that the sampler drew with. The
  # sampler keeps a cache of keys and values, and computes a prompt once.
  prompt, length = encode(tasks)
  out = sample(
    unstack(params, MODEL.config.num_layers),
    prompt,
    length,
    key,
    model=MODEL,
    sampling=Sampling(N, TOKENIZER.end_ids, temperature=1.0),
    group=G,
  )
  out = jax.device_get(out)

  # Lay each answer behind its prompt. Only sampled tokens are trained: the mask
  # says where they are. `logp[b, t]` belongs to `tokens[b, t]`.
  tokens = np.pad(np.repeat(prompt, G, axis=0), ((0, 0), (0, N)))
  mask = np.zeros((P * G, S + N), bool)
  logp_old = np.zeros((P * G, S + N), np.float32)
  for b in range(P * G):
    at = slice(length[b // G], length[b // G] + out.length[b])
    tokens[b, at] = out.tokens[b, : out.length[b]]
    logp_old[b, at] = out.logp[b, : out.length[b]]
    mask[b, at] = True

  # r(x, y) of each row, then A_i = (r_i - mean(r)) / (std(r) + eps) within its
  # group: how much better than the other answers to the same prompt. The group
  # takes the place of a critic. Groups in which all are right, or none, have
  # A = 0: they teach nothing.
  r = [reward(tasks[b // G], out.tokens[b]) for b in range(P * G)]
  r = np.array(r, np.float32).reshape(P, G)
  adv = np.asarray(jax.vmap(grpo)(r, np.ones((P, G), bool)))

  # All tokens of a row get its advantage: which of them were good is not known.
  adv = np.where(mask, adv.reshape(-1, 1), 0).astype(np.float32)
  return dict(tokens=tokens, mask=mask, adv=adv, logp_old=logp_old, reward=r)


def loss(params, batch):
  """The loss f32[]; its gradient is an estimate of that of -E[r].

  Per token, rho = pi(token) / pi_old(token) and

    L = max(-A rho, -A clip(rho, 0.8, 1.28))

  then the mean over all sampled tokens. At rho = 1, as here, where each batch
  is used once, the gradient is -A grad log pi: REINFORCE with a baseline. The
  clipping would matter for more updates on the same batch.
  """
  logp, _ = token_logprobs(params, batch['tokens'], model=MODEL)
  mask = batch['mask']
  per_token, _ = clip(
    logp, batch['logp_old'], batch['adv'], mask, low=0.2, high=0.28
  )
  # A Ratio of two sums, divided at the end: they would add over micro-batches.
  return divide(token_mean(per_token, mask))


@functools.partial(jax.jit, static_argnames='optimizer')
def update(params, opt_state, batch, *, optimizer):
  """One step of gradient descent."""
  # The loss itself is not worth a look: on-policy, it is about 0 whatever the
  # policy does. Its gradient counts, and the reward tells whether it helps.
  grads = jax.grad(loss)(params, batch)
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state


def accuracy(params) -> float:
  """Share of the held-out tasks whose greedy answer is right."""
  tasks = list(TASKS['test'])
  out = sample(
    unstack(params, MODEL.config.num_layers),
    *encode(tasks),
    jax.random.key(0),
    model=MODEL,
    sampling=Sampling(N, TOKENIZER.end_ids, temperature=0.0),
  )
  return np.mean([*map(reward, tasks, np.asarray(out.tokens))])


def main(argv=None) -> tuple[float, float]:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--steps', type=int, default=160)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args(argv)

  # `init` gives parameters with the names of their axes, for sharding.
  params = nn.meta.unbox(init(MODEL, jax.random.key(args.seed)))
  # Norms are clipped because a rare success has a large advantage.
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adam(optax.linear_schedule(3e-3, 0.0, args.steps), b2=0.95),
  )
  opt_state = optimizer.init(params)
  rng, train = np.random.default_rng(args.seed), TASKS['train']

  before = accuracy(params)
  for step in range(1, args.steps + 1):
    tasks = [train[i] for i in rng.choice(len(train), P, replace=False)]
    key = jax.random.fold_in(jax.random.key(args.seed), step)
    batch = collect(params, tasks, key)
    r = batch.pop('reward')
    spread = (r.max(1) > r.min(1)).mean()  # groups that teach something
    params, opt_state = update(params, opt_state, batch, optimizer=optimizer)
    print(f'step {step} reward {r.mean():.3f} spread {spread:.2f}', flush=True)
  after = accuracy(params)
  print(f'held-out accuracy {before:.2f} -> {after:.2f}')
  return before, after


if __name__ == '__main__':
  main()

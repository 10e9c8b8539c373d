r"""GRPO on GSM8K.

  python scripts/train.py --config=configs/gsm8k.py:SCALE --workdir=DIR \
    --config.model.name=WEIGHTS

SCALE is `smollm2` (the default; weights come with it, any machine),
`qwen2.5_1.5b` or `qwen2.5_7b`. The Qwen scales name an architecture with
random weights, so that they compile without a download; WEIGHTS is
Qwen/Qwen2.5-1.5B, Qwen/Qwen2.5-7B (or -Instruct) from the Hugging Face hub,
or a folder with such a model. The data are downloaded once into data/gsm8k, or
read from train.jsonl and test.jsonl there.

Hardware of the Qwen scales: a TPU slice such as v5e:8x8. gsm8k_aot.md says on
which slices they fit, compiled ahead of time; none was run, so no accuracy is
claimed. `smollm2` is there to try the recipe; a model of 135M parameters
solves few of these problems, so few groups carry gradient.

As in DeepSeekMath (arXiv:2402.03300): the estimator, learning rate 1e-6, up to
1,024 new tokens, one update a batch. Otherwise: 8 samples instead of 64, no kl
(there: k3 with weight 0.04; --config.algo.kl=k3 --config.algo.beta=0.04),
DAPO's upper clip range and token mean, which are this project's defaults.
"""

from configs import common


def get_config(arg: str = ''):
  scales = ('smollm2', 'qwen2.5_1.5b', 'qwen2.5_7b')
  scale = common.parse_arg(arg, scale=scales)['scale']
  c = common.base()
  c.model.name = scale
  c.env = "gsm8k(data_dir='data/gsm8k', download=True)"
  c.system_prompt = (
    'Please reason step by step, and put your final answer within \\boxed{}.'
  )
  c.total_steps = 200
  c.num_generations = 8
  c.max_prompt_length = 512
  c.optimizer.learning_rate = 1e-6
  c.optimizer.warmup_steps = 5
  c.eval_every = 25
  c.save_every = 25
  if scale == 'smollm2':
    c.train_batch_size = 16
    c.max_completion_length = 256
    c.groups_per_micro_batch = 1
    return c
  c.model.dtype = 'bfloat16'
  c.model.remat = True
  c.max_logp_diff = 1.0  # bfloat16 rounds differently in sampler and trainer
  c.train_batch_size = 64
  c.logits_chunk = 16_384
  c.max_completion_length = 1024
  c.eval.num_tasks = 1319  # all
  c.eval.batch_size = 256
  # The size of tensor divides the key-value heads: 2 and 4 of them. The
  # micro-batch is a multiple of data*fsdp on the largest slice, v5e:8x8.
  if scale == 'qwen2.5_1.5b':
    c.mesh.shape = (1, -1, 2)
    c.groups_per_micro_batch = 32
  else:
    c.mesh.shape = (1, -1, 4)
    c.groups_per_micro_batch = 4  # one a device of v5e:4x4, or it does not fit
  return c

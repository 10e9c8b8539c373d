r"""GRPO on one v5e host of eight chips: GSM8K, or problems like those of MATH.

  python scripts/train.py --workdir=DIR --config.model.name=WEIGHTS \
    --config=configs/v5e8.py:SCALE[,data=math][,tokens=N]

| SCALE | trains | WEIGHTS, such as |
|---|---|---|
| smollm2_360m (default) | all weights | HuggingFaceTB/SmolLM2-360M-Instruct |
| qwen2.5_1.5b | all weights | Qwen/Qwen2.5-1.5B-Instruct |
| gemma3_1b | all weights | google/gemma-3-1b-it |
| qwen2.5_7b | adapters: LoRA | Qwen/Qwen2.5-7B-Instruct |
| qwen3_8b | adapters: LoRA | Qwen/Qwen3-8B |

`tokens` is the limit of an answer, 1,024 to 4,096. A scale names an
architecture with random weights, so that it compiles without a download.
GSM8K is downloaded once into data/gsm8k; data=math reads Parquet or JSON-lines
files with the fields `problem` and `solution` in data/math, whose gold answer
is the last box of the solution.

Sizes are chosen by arithmetic; what a chip then holds, the compiler says:

  python scripts/aot_table.py --config=configs/v5e8.py --topology=v5e:2x4 \
    --out=configs/v5e8_aot.md

v5e8_aot.md has what was compiled. None was run, so no accuracy and no speed is
claimed.
"""

from configs import common

SCALES = (
  'smollm2_360m',
  'qwen2.5_1.5b',
  'gemma3_1b',
  'qwen2.5_7b',
  'qwen3_8b',
)
# The size of tensor divides the key-value heads: 5, 2, 1, 4 and 8 of them.
TENSOR = dict(zip(SCALES, (1, 2, 1, 4, 4), strict=True))
ADAPTED = SCALES[3:]  # more weights than eight chips can train
# What scripts/aot_table.py compiles.
AOT = tuple(
  scale + more for scale in SCALES for more in ('', ',data=math,tokens=4096')
)
MATH = (
  "folder(path='data/math', question=problem, answer=solution, pick=boxed, "
  'solution=solution)'
)


def get_config(arg: str = ''):
  known = dict(scale=SCALES, data=('gsm8k', 'math'), tokens=1024)
  arg = common.parse_arg(arg, **known)
  scale, tokens = arg['scale'], arg['tokens']
  c = common.base()
  c.model.name = scale
  c.model.dtype = 'bfloat16'
  c.model.remat = True
  c.mesh.shape = (1, -1, TENSOR[scale])
  c.max_logp_diff = 1.0  # bfloat16 rounds differently in sampler and trainer
  c.env = "gsm8k(data_dir='data/gsm8k', download=True)"
  if arg['data'] == 'math':
    c.env = MATH
  c.system_prompt = (
    'Please reason step by step, and put your final answer within \\boxed{}.'
  )
  c.total_steps = 200
  c.max_prompt_length = 512
  c.max_completion_length = tokens
  # Long answers: fewer of them, for the cache, and smaller groups, for the
  # attention scores of a micro-batch.
  c.train_batch_size = 32 if tokens <= 1024 else 16
  c.num_generations = 8 if tokens <= 2048 else 4
  c.groups_per_micro_batch = 8 // TENSOR[scale]  # a group of each shard
  # Gemma's vocabulary is five times that of SmolLM2: 1 GiB of logits, not 4.
  c.logits_chunk = 1024 if scale == 'gemma3_1b' else 4096
  c.optimizer.learning_rate = 1e-6
  c.optimizer.warmup_steps = 5
  if scale in ADAPTED:
    c.model.lora = 'lora(rank=16, alpha=32.0, on=all)'
    c.model.param_dtype = 'bfloat16'  # of the base, which stays as it is
    # Adapters want about ten times the rate of all weights.
    c.optimizer.learning_rate = 1e-5
  c.eval.num_tasks = 512
  c.eval.batch_size = 128
  c.eval_every = 25
  c.save_every = 25
  return c

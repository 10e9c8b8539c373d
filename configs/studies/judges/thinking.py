r"""Does thinking first help a judge, at equal tokens?

  python scripts/sweep.py --config=configs/studies/judges/thinking.py \
    --workdir=runs/judges_thinking
  python scripts/study.py runs/judges_thinking --over=accuracy \
    --metrics='eval/judge/vote@*,eval/judge/consistency,eval/mean_length'

As judges.py:tiny, but a response is a sum such as 37+18, which must be added
before it can be compared. ARG `arm` is

  direct  the verdict alone, a letter and the end token
  think   a thought first, which says what each sum comes to

`stage=start` is the model that RL starts from: it imitated 800 steps of such
verdicts. Tokens are equal where `direct` votes as often as eval/mean_length of
`think` goes into its own.
"""

from configs import common
from configs.studies.judges import judges
from rlvr_jax import registry

ARMS = ('direct', 'think')


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, arm=ARMS, stage=('rl', 'start'), seed=0)
  thinks = arg['arm'] == 'think'
  c = judges.tiny()
  c.seed = arg['seed']
  pairs = registry.spec('comparisons', max_value=99, terms=2, test_size=64)
  c.env = registry.spec(
    'judgments', pairs=registry.Spec(pairs), format='letter', think=thinks
  )
  c.max_completion_length = 24 if thinks else 2
  if arg['stage'] == 'start':
    c.method = 'sft'
    c.total_steps, c.num_generations = 800, 1
    c.train_batch_size = c.groups_per_micro_batch = 64
    c.optimizer.learning_rate = 3e-3
    c.optimizer.schedule, c.optimizer.warmup_steps = 'cosine', 50
    c.eval_every, c.save_every, c.log_every = 0, 400, 100
  else:
    c.model.name = f'{common.path(__file__)}:stage=start,arm={arg["arm"]}'
    c.reward_funcs = ('outcome(wrong=-1.0)',)
    c.eval.samples = 16
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(5):
      add(arg=f'arm={arm},seed={seed}')

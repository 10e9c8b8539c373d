r"""Within how many attempts is one hard task solved by a policy that learns?

  python scripts/sweep.py --workdir=runs/test_time --config=\
configs/studies/self_distillation/test_time.py
  python scripts/study.py runs/test_time --discovered=64,256,1024,2048 \
    --out=configs/studies/self_distillation/test_time

Test-time training (SDPO, arXiv:2601.20802, section 5): a run has one chain of
an addition and three subtractions, which the base model of self_distillation.py
guesses right once in 1,000; seed s takes the s-th chain. ARG `arm` is best_of_n
(the policy stays as it is), grpo, sdpo (a right sibling, else feedback),
sdpo_feedback. Before the first success outcome reward has no gradient, so grpo
is best_of_n until then.
"""

from configs import common
from configs.studies.self_distillation import self_distillation as study
from rlvr_jax import registry

ARMS = {
  'best_of_n': {'optimizer.learning_rate': 0.0},
  'grpo': {},
  'sdpo': study.ARMS['sdpo'],
  'sdpo_feedback': study.ARMS['sdpo_feedback'],
}


def get_config(arg: str = ''):
  arg = common.parse_arg(arg, arm=tuple(ARMS), seed=0, steps=64)
  c = study.tiny('rare')
  # A seed's own task: `seed` permutes the questions, of which the first is it.
  c.env = registry.spec(
    'chain', **study.SIZES, pattern='+---', seed=arg['seed']
  )
  c.train_tasks = 1
  c.model.name = f'{common.path(study.__file__)}:stage=base'
  c.train_batch_size = c.groups_per_micro_batch = 4
  c.total_steps = arg['steps']
  c.optimizer.learning_rate = 1e-3
  c.eval.num_tasks, c.eval.samples = 1, 64
  c.eval_every = 0
  c.seed = arg['seed']
  c.update_from_flattened_dict(ARMS[arg['arm']])
  c.teacher.template = 'plain'
  return c


def sweep(add):
  for arm in ARMS:
    for seed in range(12):
      add(arg=f'arm={arm},seed={seed}')

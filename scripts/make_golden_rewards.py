"""Writes tests/goldens/rewards.npz: what TRL's RewardTrainer makes of pairs.

  pip install torch transformers trl==1.16.0
  python scripts/make_golden_rewards.py [FILE]

The reward model is one of the random models in tests/goldens with a random
head, the pairs are those of make_golden_preferences.py, with random margins.
RewardTrainer computes loss, metrics and gradient of all of them as one batch.
"""

import pathlib
import sys
import tempfile

import make_golden_preferences as preferences
import numpy as np

# name -> (spec of the reward loss, TRL's settings, whether rows have margins)
LOSSES = {
  'plain': ('bradley_terry', {}, False),
  'margins': ('bradley_terry', {}, True),
  'center': (
    'bradley_terry(center=0.1)',
    {'center_rewards_coefficient': 0.1},
    True,
  ),
}


def margins() -> list[float]:
  """One for each pair."""
  count = len(preferences.pairs())
  return np.random.default_rng(1).uniform(0, 2, count).tolist()


def head() -> np.ndarray:
  """The head's weights f32[D], large enough that scores differ."""
  return np.random.default_rng(2).normal(0, 1, 32).astype(np.float32)


def rewards(settings: dict, with_margins: bool) -> tuple[float, dict, dict]:
  """Loss, metrics and gradient of all pairs as one batch of RewardTrainer."""
  import datasets
  import torch
  import transformers
  import trl

  rows = [
    {'chosen_ids': a + b, 'rejected_ids': a + c}
    | ({'margin': m} if with_margins else {})
    for (a, b, c), m in zip(preferences.pairs(), margins(), strict=True)
  ]
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    preferences.GOLDENS / preferences.POLICY,
    num_labels=1,
    pad_token_id=0,
    dtype='float32',
  )
  model.score.weight.data = torch.tensor(head())[None]
  with tempfile.TemporaryDirectory() as folder:
    trainer = trl.RewardTrainer(
      model=model,
      args=trl.RewardConfig(
        output_dir=folder,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        per_device_train_batch_size=len(rows),
        **settings,
      ),
      train_dataset=datasets.Dataset.from_list(rows),
      processing_class=preferences.tokenizer(),
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    loss = trainer.compute_loss(trainer.model.train(), batch)
  loss.backward()
  metrics = {k: v[-1] for k, v in trainer._metrics['train'].items()}
  gradient = {k: p.grad.numpy() for k, p in model.named_parameters()}
  return loss.item(), metrics, gradient


def main(path: pathlib.Path) -> None:
  """Writes all results to one file."""
  out: dict = {'head': head(), 'margins': np.array(margins())}
  for name, (_, settings, with_margins) in LOSSES.items():
    loss, metrics, gradient = rewards(settings, with_margins)
    out[f'{name}/loss'] = loss
    out[f'{name}/norm'] = preferences.norm(gradient)
    for key in ('accuracy', 'margin', 'mean_reward'):
      out[f'{name}/{key}'] = metrics[key]
    if name == 'center':
      out |= {f'gradient/{k}': v for k, v in gradient.items()}
  np.savez_compressed(path, **out)
  for key, value in out.items():
    if not key.startswith('gradient/'):
      print(key, value)


if __name__ == '__main__':
  default = preferences.GOLDENS / 'rewards.npz'
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)

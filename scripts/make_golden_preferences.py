"""Writes tests/goldens/preferences.npz: what TRL's trainers make of pairs.

  pip install torch transformers trl==1.16.0
  python scripts/make_golden_preferences.py [FILE]

The policy and the reference are two of the random models in tests/goldens, the
pairs random tokens. DPOTrainer computes each loss, its metrics and its gradient
from them; CPOTrainer's own functions compute SimPO.
"""

import pathlib
import sys
import tempfile
import types

import numpy as np

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'goldens'
POLICY, REFERENCE = 'qwen2_tied', 'qwen3_untied'
VOCAB, END = 64, 63
# name -> (the spec of the preference, TRL's settings)
LOSSES = {
  'dpo': ('dpo(beta=0.1)', {'loss_type': 'sigmoid', 'beta': 0.1}),
  'ipo': ('ipo(beta=0.5, average=True)', {'loss_type': 'ipo', 'beta': 0.5}),
  'hinge': ('hinge(beta=0.05)', {'loss_type': 'hinge', 'beta': 0.05}),
  'robust': (
    'robust(beta=0.1, label_smoothing=0.2)',
    {'loss_type': 'robust', 'beta': 0.1, 'label_smoothing': 0.2},
  ),
}
SIMPO = 'simpo(beta=2.0, gamma=0.5)'


def pairs(count: int = 6) -> list[tuple[list[int], list[int], list[int]]]:
  """(prompt, chosen, rejected) of random tokens; completions end with END."""
  rng = np.random.default_rng(0)
  draw = lambda low, high: rng.integers(1, END, rng.integers(low, high))
  return [
    (
      draw(2, 6).tolist(),
      [*draw(1, 7).tolist(), END],
      [*draw(0, 7).tolist(), END],
    )
    for _ in range(count)
  ]


def tokenizer():
  """One whose words are its ids: '<3> <14> <63>'."""
  import tokenizers
  import transformers

  words = {f'<{i}>': i for i in range(VOCAB)}
  model = tokenizers.models.WordLevel(words, unk_token='<0>')
  backend = tokenizers.Tokenizer(model)
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend, eos_token=f'<{END}>', pad_token='<0>'
  )


def load(name: str):
  """A model of tests/goldens in float32."""
  import transformers

  return transformers.AutoModelForCausalLM.from_pretrained(
    GOLDENS / name, dtype='float32'
  )


def dpo(settings: dict) -> tuple[float, dict, dict]:
  """Loss, metrics and gradient of all pairs as one batch of DPOTrainer."""
  import datasets
  import trl

  text = lambda ids: ' '.join(f'<{i}>' for i in ids)
  rows = [
    {'prompt': text(a) + ' ', 'chosen': text(b), 'rejected': text(c)}
    for a, b, c in pairs()
  ]
  with tempfile.TemporaryDirectory() as folder:
    trainer = trl.DPOTrainer(
      model=load(POLICY),
      ref_model=load(REFERENCE),
      args=trl.DPOConfig(
        output_dir=folder,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(rows),
        **settings,
      ),
      train_dataset=datasets.Dataset.from_list(rows),
      processing_class=tokenizer(),
    )
    seen = [
      tuple(row[k] for k in ('prompt_ids', 'chosen_ids', 'rejected_ids'))
      for row in trainer.train_dataset
    ]
    assert seen == pairs()
    batch = trainer.data_collator(list(trainer.train_dataset))
    loss = trainer.compute_loss(trainer.model.train(), batch)
  loss.backward()
  metrics = {k: v[-1] for k, v in trainer._metrics['train'].items()}
  gradient = {k: p.grad.numpy() for k, p in trainer.model.named_parameters()}
  return loss.item(), metrics, gradient


def simpo() -> tuple[float, float]:
  """The loss of CPOTrainer with loss_type='simpo', and its gradient's norm."""
  import torch
  from trl.experimental.cpo import CPOTrainer

  policy, sides = load(POLICY), []
  for side in (1, 2):
    means = []
    for pair in pairs():
      ids = torch.tensor([pair[0] + pair[side]])
      labels = ids.clone()
      labels[:, : len(pair[0])] = -100
      means.append(
        CPOTrainer.get_batch_logps(
          policy(ids).logits, labels, average_log_prob=True
        )
      )
    sides.append(torch.cat(means))
  trainer = types.SimpleNamespace(
    loss_type='simpo',
    beta=2.0,
    simpo_gamma=0.5,
    label_smoothing=0.0,
    alpha=0.0,
    accelerator=types.SimpleNamespace(device='cpu'),
  )
  loss = CPOTrainer.cpo_loss(trainer, *sides)[0].mean()
  loss.backward()
  return loss.item(), norm(
    {k: p.grad.numpy() for k, p in policy.named_parameters()}
  )


def norm(gradient: dict) -> float:
  """The 2-norm of all tensors together."""
  return float(
    np.sqrt(sum(np.square(np.float64(x)).sum() for x in gradient.values()))
  )


def main(path: pathlib.Path) -> None:
  """Writes all results to one file."""
  out = {}
  for name, (_, settings) in LOSSES.items():
    loss, metrics, gradient = dpo(settings)
    out[f'{name}/loss'], out[f'{name}/norm'] = loss, norm(gradient)
    for key in metrics:
      if key.startswith(('rewards/', 'logps/')):
        out[f'{name}/{key}'] = metrics[key]
    if name == 'dpo':
      out |= {f'gradient/{k}': v for k, v in gradient.items()}
  out['simpo/loss'], out['simpo/norm'] = simpo()
  np.savez_compressed(path, **out)
  for key, value in out.items():
    if not key.startswith('gradient/'):
      print(key, value)


if __name__ == '__main__':
  default = GOLDENS / 'preferences.npz'
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)

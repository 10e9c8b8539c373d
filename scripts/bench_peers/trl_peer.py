"""TRL's side of the benchmark; see common.py for what a side must do.

Runs in .bench/trl. Settings that differ from the defaults of TRL 1.16: `bf16`
and `gradient_checkpointing` are off; the loss is 'grpo' instead of 'dapo'. The
stop token is read from the tokenizer and from the generation config, so both
are set. W3 measures transformers' `generate`, which TRL samples with.
"""

import importlib.metadata
import tempfile
import time

import common
import datasets
import torch
import transformers
import trl


def proof(args, model, tokenizer):
  def ids(text):
    return torch.tensor([tokenizer(text)['input_ids']])

  prompt, question = ids(common.CHECK_PROMPT), ids(common.CHECK_QUESTION)
  with torch.no_grad():
    logits = model(prompt).logits[0].numpy()
  greedy = model.generate(
    question,
    attention_mask=torch.ones_like(question),
    do_sample=False,
    max_new_tokens=common.CHECK_NEW,
    eos_token_id=tokenizer.convert_tokens_to_ids(common.END),
    pad_token_id=tokenizer.pad_token_id,
  )
  answer = tokenizer.decode(greedy[0, question.shape[1] :])
  return common.prove(args, logits, answer)


def sample_only(args, record, model, tokenizer):
  model.eval()
  for case in common.turns(args):
    start = time.perf_counter()
    texts = [p for p in case.prompts for _ in range(case.samples)]
    batch = tokenizer(
      texts, return_tensors='pt', padding=True, padding_side='left'
    )
    out = model.generate(
      input_ids=batch['input_ids'],
      attention_mask=batch['attention_mask'],
      do_sample=True,
      temperature=1.0,
      top_k=0,
      top_p=1.0,
      max_new_tokens=case.max_new,
      eos_token_id=tokenizer.eos_token_id,
      pad_token_id=tokenizer.pad_token_id,
    )[:, batch['input_ids'].shape[1] :]
    tokenizer.batch_decode(out)
    lengths = (out != tokenizer.pad_token_id).sum(1).tolist()
    record(case, lengths=lengths, rollout_s=time.perf_counter() - start)


def train(args, record, model, tokenizer):
  (case,) = args.work.cases
  rows, steps = len(case.prompts) * case.samples, len(common.turns(args))
  seen = {}

  def reward(completions, **_):
    values = [common.digit_share(c) for c in completions]
    seen['reward'] = sum(values) / len(values)
    return values

  class EndOfStep(transformers.TrainerCallback):
    def on_step_end(self, *_, **__):
      record(
        case,
        lengths=seen['lengths'],
        rollout_s=seen['rollout_s'],
        train_s=time.perf_counter() - seen['end'],
        reward=seen['reward'],
      )

  with tempfile.TemporaryDirectory() as folder:
    trainer = trl.GRPOTrainer(
      model=model,
      processing_class=tokenizer,
      reward_funcs=reward,
      train_dataset=datasets.Dataset.from_dict(
        {'prompt': list(case.prompts) * steps}
      ),
      callbacks=[EndOfStep()],
      args=trl.GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=1,
        num_generations=case.samples,
        max_completion_length=case.max_new,
        max_steps=steps,
        learning_rate=common.LEARNING_RATE,
        lr_scheduler_type='constant',
        weight_decay=0.0,
        max_grad_norm=0.0,  # no clipping
        beta=0.0,
        loss_type='grpo',
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        shuffle_dataset=False,
        seed=args.seed,
        save_strategy='no',
        logging_strategy='no',
        report_to='none',
        disable_tqdm=True,
      ),
    )
    generate = trainer._generate

    def timed_generate(prompts):
      start = time.perf_counter()
      out = generate(prompts)
      seen['end'] = time.perf_counter()
      seen['rollout_s'] = seen['end'] - start
      seen['lengths'] = [len(ids) for ids in out[1]]
      return out

    trainer._generate = timed_generate
    trainer.train()


def main():
  args = common.parse()
  transformers.set_seed(args.seed)
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(args.model / 'tokenizer.json'),
    eos_token=args.work.stop,
    pad_token=common.PAD,
  )
  common.check_prompts(args, lambda text: tokenizer(text)['input_ids'])
  model = transformers.AutoModelForCausalLM.from_pretrained(
    args.model, dtype=torch.float32
  )
  names = ('trl', 'torch', 'transformers')
  record = common.recorder(
    args,
    proof(args, model, tokenizer),
    versions={n: importlib.metadata.version(n) for n in names},
    backend='cpu',
  )
  # TRL adds to the tokenizer's stop token those of the generation config.
  model.generation_config.eos_token_id = tokenizer.eos_token_id
  if args.work.train:
    train(args, record, model, tokenizer)
  else:
    sample_only(args, record, model, tokenizer)


if __name__ == '__main__':
  main()

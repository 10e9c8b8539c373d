"""What config files share: every key with its default, and the ARG language.

`--config=configs/NAME.py:ARG` gives ARG to `get_config`: it is for switches
that change several keys at once, such as a scale. One key is changed with
`--config.key=value`.
"""

import pathlib

import ml_collections

from rlvr_jax import registry


def base() -> ml_collections.ConfigDict:
  """Every key there is. A config file changes some and adds none.

  What each may be: rlvr_jax/config_limits.py.
  """
  c = ml_collections.ConfigDict()
  c.seed = 0  # of weights, data order and sampling; 32 bits
  c.total_steps = 100  # batches of rollouts

  # What is trained on. rl: the policy's own samples, by reward. sft: the
  # worked solutions of the tasks. distill: all samples of the teacher.
  # rejection: correct samples, of the teacher if there is one, else of the
  # policy. These three maximise log-probs; of `algo` they read aggregate, kl,
  # beta and entropy_coef. preference: pairs of the tasks, a chosen completion
  # and a rejected one; of `algo` it reads preference alone. reward_model: a
  # score of such rows, by a value head; of `algo` it reads reward_loss alone.
  c.method = 'rl'
  c.teacher = ml_collections.ConfigDict()
  c.teacher.name = ''  # as model.name, same vocabulary; '' for none
  # With algo.distill a teacher judges each token of a row, having read more
  # than the student. Whose weights: teacher.name, or where that is '' the
  # policy's, 'live', 'initial', 'ema' or 'trust_region': learner/teacher.py.
  c.teacher.weights = 'live'
  c.teacher.rate = 0.05  # of ema and trust_region: the live weights' share
  # What it reads before the row: 'none', 'solution' (a right row of the group),
  # 'feedback' (of the verifier), 'solution_or_feedback', 'both', 'gold',
  # 'demonstration', 'shortest_right'; controls 'placebo', 'shuffled', 'wrong':
  # rollouts/context.py. A row for which there is none has no teacher.
  c.teacher.context = 'none'
  c.teacher.template = 'sdpo'  # words around it: plain, sdpo, opsd, sdft
  c.teacher.remove_thinking = True  # of solutions, tell what follows a thought
  # Tokens that it may add to a prompt; a row whose context has more has no
  # teacher, and is counted.
  c.teacher.max_context_length = 256
  # Rows that it judges: all, wrong, longest_wrong of a group.
  c.teacher.rows = 'all'
  c.teacher.skip_tokens = 0  # first tokens of a row that it does not judge
  # Steps between those in which it answers itself, once for each row (in
  # dialogues: plays), for teacher/accuracy: what can be taught. 0: never.
  c.teacher.accuracy_every = 0

  c.model = ml_collections.ConfigDict()
  # A Hugging Face folder, a .gguf file, 'smollm2', a hub id, or a preset with
  # random weights such as 'tiny(width=64)'.
  c.model.name = 'smollm2'
  c.model.dtype = 'float32'  # of computation: float32, bfloat16
  # Of parameters and optimiser state. bfloat16 halves their memory; an update
  # is then rounded at random, up or down so that its mean is kept: right on
  # average and noisier. Prefer float32 where it fits.
  c.model.param_dtype = 'float32'
  c.model.remat = False  # recompute layers in the backward pass
  # Train low-rank adapters instead of the weights: 'lora(rank=16, alpha=32,
  # on=all)', on=attention, mlp, all: models/lora.py. Weights stay as they are,
  # in param_dtype; adapters and their moments are float32. '' trains all.
  c.model.lora = ''
  # An adapter to start from, a folder in PEFT's format. With model.lora it is
  # trained on, and must have its rank, alpha and projections; without, it is
  # merged into the weights. '' for none.
  c.model.adapter = ''
  # 'dense', all scores at once; 'blocked', in blocks, for long rows; 'splash',
  # the kernel for TPUs (elsewhere it is interpreted, for tests: slow). '': on a
  # TPU splash, else dense, and blocked for rows of more than 1024 tokens.
  c.model.attention = ''
  c.mesh = ml_collections.ConfigDict()
  c.mesh.shape = (1, -1, 1)  # data, fsdp, tensor; -1: the devices left

  c.env = 'arithmetic()'  # tasks, by name: see rlvr_jax/envs
  c.train_tasks = 0  # only the first so many of the train split; 0: all
  # Which of them a step takes: 'uniform', epoch after epoch; 'pass_rate' near a
  # target, or 'signal', where outcome reward says most, by the verdicts of a
  # task's rollouts so far: rlvr_jax/rollouts/task_sampling.py. method='rl'.
  c.task_sampling = 'uniform'
  c.system_prompt = ''  # '' leaves it to the chat template
  # Variables that the model's chat template reads, in every prompt of it, such
  # as 'enable_thinking=False'. '' for none.
  c.chat_template_args = ''
  # See rlvr_jax/rewards; their sum is the reward. "reward_model('DIR')": a
  # score by the run of method='reward_model' in DIR.
  c.reward_funcs = ('outcome',)
  c.reward_weights = (1.0,)  # of each of them
  # Majority answers of the starting model, by scripts/label.py: what the
  # rewards majority and incorrect compare with. '' for none.
  c.labels = ''
  c.verify_timeout_s = 3.0  # CPU time, limit on checking one answer, up to 3600
  # Which text is the answer, where graders differ: rlvr_jax/verifiers/rules.py.
  c.verifier = ml_collections.ConfigDict()
  # No answer without a box, <answer>, #### or 'the answer is'. False: else the
  # last formula or number counts, of a text that was not cut by the limit.
  c.verifier.require_mark = False
  # A thought that never closes: 'none', it has no answer, or 'read'.
  c.verifier.unfinished_thought = 'none'
  # Of a row that the limit cut, a 'marked' answer counts alone; or it is 'read'
  # as others are, where answers are as long as the limit.
  c.verifier.truncated = 'marked'
  # Several boxes for one value: the 'last' counts, or they must 'agree'.
  c.verifier.boxes = 'last'
  # '3 or 5': 'refuse', it is no answer, or its 'first' number.
  c.verifier.hedges = 'refuse'
  # What is equal, where graders differ: rlvr_jax/verifiers/rules.py.
  c.verifier.percent = 'either'  # 10% is .1 and 10; 'strict': .1 alone
  # 1,000 is a thousand, 1.000 is one; 'european': the other way round.
  c.verifier.thousands = 'english'
  c.verifier.semicolons = True  # [0; 1] is an interval
  c.verifier.ratios = 'written'  # 3:45 is itself alone; 'scaled': 1:15 too
  # Where formulas must agree: wherever both are 'real', for 'positive' symbols
  # (|x| is x), or for 'complex' ones (\\sqrt{1/n} is not 1/\\sqrt{n}).
  c.verifier.domain = 'real'
  # Relative error up to which a decimal equals an irrational number.
  c.verifier.approximate = 5e-7

  c.train_batch_size = 8  # prompts a step
  c.num_generations = 8  # samples of each prompt: a group
  c.max_prompt_length = 64  # tokens; a longer prompt is refused
  c.max_completion_length = 64  # tokens, the end token counts
  c.temperature = 1.0  # of sampling and trained log-probs, at least 0.01
  c.sampling = ml_collections.ConfigDict()
  # The rows of a group start with the num_generations most likely first tokens
  # and go on greedily: nothing is random (CoT decoding, RLSF). With
  # algo.preference alone: a policy gradient needs samples of the policy.
  c.sampling.branch = False
  # Do not train rows cut by the limit: they leave the loss and its
  # denominator, not their group's statistics.
  c.mask_truncated_completions = False
  # Sample again, at most so many batches a step, until train_batch_size
  # groups have spread in their rewards (DAPO's dynamic sampling). 0: keep
  # the batch as it is; groups without gradient are skipped either way.
  c.max_resample_batches = 0
  # A group counts as having spread when the std of its rewards (divided by G,
  # of SRL's filter) is above this. 0: when it has any advantage that is not 0.
  c.min_reward_std = 0.0

  # Environments that talk back: several turns, K of them at most. Then
  # max_completion_length is that of one message.
  c.dialogue = ml_collections.ConfigDict()
  c.dialogue.max_turns = 10  # messages of the policy
  c.dialogue.max_reply_length = 32  # tokens between two messages of the policy
  c.dialogue.max_length = 0  # tokens after the prompt; 0: all that fit
  # The game is over after so many in all, in a row or not; 0: it goes on.
  c.dialogue.max_invalid_turns = 0
  # log p(truth) before and after each turn, for algo.credit='delta_belief':
  # by the policy that plays ('current'), or the one it started from
  # ('initial'); '' for none.
  c.dialogue.belief = ''
  c.dialogue.belief_on_win = False  # whether the winning turn moves it too
  c.dialogue.max_elicit_length = 16  # tokens of "Is it 'truth'?"
  # A model that answers, as model.name; '' for environments that know.
  c.dialogue.oracle = ''
  c.dialogue.max_oracle_prompt = 512  # tokens
  c.dialogue.max_oracle_length = 16  # tokens of its answer
  c.dialogue.oracle_batch_size = 32  # answers at a time, rounded up likewise

  # A model that judges the policy's answers, for the reward judge(...).
  c.judge = ml_collections.ConfigDict()
  # As model.name; 'policy': the policy itself, with its current weights; ''
  # for none.
  c.judge.name = ''
  c.judge.max_prompt_length = 1024  # tokens; a longer one gives no verdict
  c.judge.max_completion_length = 512  # tokens of a judgment
  c.judge.temperature = 1.0  # at least 0.01
  c.judge.batch_size = 32  # prompts at a time, rounded up likewise
  # 'policy': its judgments are trained too, by SERL's reward for agreement with
  # the ranking of all judgments; this times their advantages. 0: they are not.
  c.judge.weight = 0.0
  # Controls: each readable verdict is for the 'first' response shown, or is
  # 'flipped'; 'noisy(error=0.2, first=0.0)', without a name, errs by so much:
  # rlvr_jax/rollouts/judge_controls.py. '' for none.
  c.judge.control = ''

  c.algo = ml_collections.ConfigDict()
  # By name, with literal arguments; see the modules of rlvr_jax/ops.
  c.algo.credit = 'outcome'  # one row's rewards to scores: credit.py
  # Baseline of turn k: the group's members that reached it ('living'), or all
  # of them, with finished games counting as 0 ('padded').
  c.algo.turn_statistics = 'living'
  # Scores to advantages: estimators.py; 'gae(gamma=1.0, lam=0.95)' makes it
  # PPO, with a value head on the policy.
  c.algo.estimate = 'grpo'
  c.algo.surrogate = 'clip(low=0.2, high=0.28)'  # loss of a token
  c.algo.aggregate = 'token_mean'  # of tokens to one number
  c.algo.kl = ''  # k1, k2, k3; '' for none
  c.algo.beta = 0.0  # weight of kl against the initial policy
  c.algo.entropy_coef = 0.0  # weight of the entropy bonus; below 0: a penalty
  # Weights against a gap between sampler and trainer: correction.py; such as
  # 'truncate(level=token, high=2.0)'. '' for none.
  c.algo.correction = ''
  # Loss of pairs: preference.py; such as 'dpo(beta=0.1)', whose reference is
  # the initial policy. For method='preference', and for 'rl' in place of
  # estimate, surrogate, aggregate and kl (online DPO): a row is preferred to
  # those of its group with a smaller reward. '' for none.
  c.algo.preference = ''
  # Which of these pairs of a group, with method='rl': preference.py; such
  # as 'best_worst(margin=0.1)'.
  c.algo.pairs = 'all'
  # Loss of scores, for method='reward_model': reward_loss.py; of pairs,
  # 'bradley_terry(center=0.01)', or of rows with labels, 'bce'. '' for none.
  c.algo.reward_loss = ''
  # gae: k1, k2, k3 against the initial policy, which each token's reward pays
  # for (InstructGPT, TRL: 'k1'), besides algo.kl in the loss; '' for none.
  c.algo.reward_kl = ''
  c.algo.reward_beta = 0.0  # gae: weight of reward_kl
  # How a teacher enters the loss: 'loss', 'add(weight=0.1)', 'advantage',
  # 'reweight': distill.py. '' for none. method='rl', or 'distill' to match the
  # distribution of the teacher that wrote the rows.
  c.algo.distill = ''
  # What 'loss' and 'add' measure, at `temperature`: 'forward', 'reverse' and
  # 'jsd', over k tokens or all, 'sampled', 'gated': divergence.py.
  c.algo.divergence = 'reverse'
  c.algo.whiten = True  # gae: advantages, over the tokens of the batch
  c.algo.value_coef = 0.1  # gae: weight of the value loss
  c.algo.value_clip = 0.2  # gae: range of a value around its old one; 0: any
  # Updates on each batch, all of it every time. Metrics are of the last
  # one, sampler_trainer/* of the first (later ones are off-policy by design).
  c.num_iterations = 1

  c.optimizer = ml_collections.ConfigDict()
  c.optimizer.learning_rate = 1e-6  # after the warm-up
  c.optimizer.value_learning_rate = 0.0  # of the value head; 0: as the others
  c.optimizer.schedule = 'constant'  # constant, linear, cosine
  c.optimizer.warmup_steps = 0  # updates
  c.optimizer.b1 = 0.9  # decay of Adam's mean of gradients, below 1
  c.optimizer.b2 = 0.95  # decay of Adam's mean of squares, below 1
  c.optimizer.eps = 1e-8  # added to Adam's root of squares; above 0, up to 1
  c.optimizer.weight_decay = 0.0  # on matrices, not on norms and biases
  c.optimizer.max_grad_norm = 1.0  # 0: no clipping
  # Regular expression on parameter paths; of adapters, if there are any.
  c.optimizer.trainable = '.*'

  # Prompts; cannot change the result, nor metrics but signal/cross and /pairs,
  # which need two micro-batches a step. In equal parts for data*fsdp devices:
  # the least common multiple of both numbers is taken.
  c.groups_per_micro_batch = 1
  # Cuts each group's rows into so many parts, and a micro-batch takes parts in
  # place of groups: for rows so long that a group does not fit. Each part
  # computes the prompt anew. Changes no result; signal/cross is unknown then.
  c.parts_per_group = 1
  c.logits_chunk = 1024  # rows of logits in memory at a time

  c.log_every = 1  # steps between console lines
  # Steps between those with entropy, ratio, clip_ratio and sampler_trainer/*
  # (and the alarm). They are means over all trained tokens, so groups without
  # gradient pass forward for them: a third of what training them would take.
  # Steps in which every group has a gradient tell them in any case.
  c.metrics_every = 1
  # Steps between those with sampler_trainer/logp_diff_by_position, which take
  # a forward pass more. 0: never. method='rl'.
  c.positions_every = 10
  # Where metrics go besides metrics.jsonl and eval.jsonl: 'tensorboard',
  # 'wandb', 'trackio', each of which must be installed.
  c.log_to = ()
  c.log_transcripts = 4  # rows a step in rollouts.jsonl
  c.save_every = 10  # steps
  c.max_to_keep = 2  # checkpoints
  # A metric such as 'eval/accuracy': the checkpoint with its largest value is
  # kept besides, and is what a run is when it serves as a model; '-eval/ece':
  # with its smallest. '' for none.
  c.keep_best = ''
  # First and last step of a profiler trace in DIR/profile; (0, 0): none.
  c.profile_steps = (0, 0)
  # Where compiled programs are kept for restarts: 'auto', in .cache beside the
  # workdir; 'off'; or a directory.
  c.compilation_cache = 'auto'
  c.max_logp_diff = 0.01  # alarm: largest sampler-trainer gap, in nats
  # Stop after so many in a row that are not finite (or come from a policy too
  # certain to be moved), or whose rewards refuse all rows.
  c.max_skipped_updates = 3

  c.eval_every = 10  # steps; 0: only before and after
  c.eval = ml_collections.ConfigDict()
  c.eval.split = 'test'  # or train, or validation where the env has one
  c.eval.num_tasks = 128  # of that split
  c.eval.samples = 1  # of each task
  c.eval.batch_size = 32  # samples at a time, rounded up to data*fsdp parts
  c.eval.temperature = 0.0  # 0: greedy; else at least 0.01
  c.eval.top_k = 0  # most likely tokens to choose from; 0: all
  c.eval.top_p = 1.0  # their mass; 1.0: all
  # Sample r starts with the r-th most likely first token and goes on greedily;
  # temperature, top_k and top_p are not read. eval/cot_decoding@K is the
  # accuracy of the most confident of the first K: see eval.signals.
  c.eval.branch = False
  # The policy's confidence in each answer, eval/answer_gap, and whether it is
  # calibrated, for one more forward pass; eval.branch has it in any case.
  c.eval.signals = False
  c.eval.max_turns = 0  # of a dialogue; 0: as in training
  return c


##### scales that studies share; they set the rest #####


def tiny() -> ml_collections.ConfigDict:
  """RL of a byte-level model, a minute on two CPU cores.

  Model and tasks are a study's: configs/base_models.
  """
  c = base()
  c.total_steps = 40
  c.train_batch_size = 16
  c.num_generations = 16
  c.groups_per_micro_batch = 16
  c.optimizer.learning_rate = 3e-4
  c.eval.num_tasks = 64
  c.eval.samples = 64
  c.eval.temperature = 1.0
  c.eval.batch_size = 512
  c.eval_every = 0
  c.log_every = 10
  c.save_every = 40
  return c


def smollm2() -> ml_collections.ConfigDict:
  """Arithmetic with the packaged SmolLM2-135M, an hour on two CPU cores."""
  c = base()
  c.env = "arithmetic(max_value=20, ops='+-', test_size=128)"
  c.total_steps = 100
  c.train_batch_size = 8
  c.num_generations = 8
  c.max_prompt_length = 64
  c.max_completion_length = 32
  c.groups_per_micro_batch = 4
  c.optimizer.learning_rate = 1e-5
  c.optimizer.warmup_steps = 2
  c.eval.num_tasks = 128
  c.eval.samples = 16
  c.eval.temperature = 1.0
  c.eval.batch_size = 64
  c.eval_every = 50
  return c


def qwen() -> ml_collections.ConfigDict:
  """GSM8K on a TPU slice such as v5e:8x8.

  An architecture without weights; --config.model.name=Qwen/Qwen2.5-7B brings
  them.
  """
  c = base()
  c.model.name = 'qwen2.5_7b'
  c.model.dtype = 'bfloat16'
  c.model.remat = True
  c.mesh.shape = (1, -1, 4)  # tensor divides the 4 key-value heads
  c.max_logp_diff = 1.0  # bfloat16 rounds differently in sampler and trainer
  c.env = "gsm8k(data_dir='data/gsm8k', download=True)"
  c.system_prompt = (
    'Please reason step by step, and put your final answer within \\boxed{}.'
  )
  c.max_prompt_length = 512
  c.max_completion_length = 1024
  c.logits_chunk = 16_384
  c.groups_per_micro_batch = 16
  c.optimizer.learning_rate = 1e-6
  c.eval.num_tasks = 512
  c.eval.samples = 256
  c.eval.temperature = 0.6
  c.eval.top_p = 0.95
  c.eval.batch_size = 256
  c.eval_every = 0
  return c


##### what a config file calls #####


def path(file: str) -> str:
  """'configs/NAME.py' for the __file__ of a config file.

  So that a study names its own first stage where it was copied to.
  """
  parts = pathlib.Path(file).parts
  at = max((i for i, part in enumerate(parts) if part == 'configs'), default=0)
  return '/'.join(parts[at:])


def parse_arg(arg: str, **known):
  """Reads an ARG such as `tiny`, `scale=tiny` or `tiny,seeds=5`.

  Args:
    arg: words separated by commas, each `key=value`, or `key` for a bool, or
      one of a key's choices.
    **known: the default of each key: a bool, an int, a float, a string, or a
      tuple of strings, which are the choices, the first the default.

  Returns:
    {key: value} with every key of `known`.

  Raises:
    ValueError: a word that nothing knows (lists what is known), or a value
      of another type.
  """
  values = {k: v[0] if isinstance(v, tuple) else v for k, v in known.items()}
  choices = {c: k for k, v in known.items() if isinstance(v, tuple) for c in v}
  for word in filter(None, arg.split(',')):
    key, eq, text = word.partition('=')
    if not eq and word in choices:
      values[choices[word]] = word
    elif not eq and known.get(word) in (True, False):
      values[word] = True
    elif eq and key in known:
      values[key] = _value(key, text, known[key])
    else:
      words = [*choices, *(k for k in known if k not in choices)]
      raise ValueError(
        f'Unknown config ARG {registry.show(word)}.{registry.nearest(key, words)} '
        f'Known: {", ".join(words) or "none"}.'
      )
  return values


def _value(key, text, default):
  try:
    if isinstance(default, tuple):
      return default[default.index(text)]
    if isinstance(default, bool):
      return {'true': True, '1': True, 'false': False, '0': False}[text.lower()]
    return type(default)(text)
  except (ValueError, KeyError) as e:
    kind = (
      f'one of {", ".join(default)}'
      if isinstance(default, tuple)
      else type(default).__name__
    )
    raise ValueError(
      f'Config ARG {registry.show(key)} is {kind}, not {registry.show(text)}.'
    ) from e

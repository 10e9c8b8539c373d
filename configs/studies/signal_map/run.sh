#!/usr/bin/env bash
# The study in full, from nothing; an interrupted one goes on.
#
#   bash configs/studies/signal_map/run.sh [BASE,SEED ...]
#
# Without arguments all base models and seeds that signal_map.py lists.
# Everything is in runs/signal_map; what the picture and the tables need is
# copied to configs/studies/signal_map/results.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PY=${PY:-.venv/bin/python}
CONFIG=configs/studies/signal_map/signal_map.py
RUNS=runs/signal_map
RESULTS=configs/studies/signal_map/results

OUTCOME="outcome,outcome|grpo,outcome|rloo,outcome|max_rl,outcome|psr"
OUTCOME+=",outcome|nsr,outcome|pass_at_k,outcome|baseline(value=0.3333)"
OUTCOME+=",outcome|baseline(value={best}),outcome|surprise_baseline"
OUTCOME+=",outcome|seq_mean_token_mean,flip(reward=outcome, rate=0.1)"
OUTCOME+=",flip(reward=outcome, rate=0.3)"
CONTROLS="random,permuted(reward=outcome),inverse(reward=outcome)"
CONTROLS+=",constant(value=1.0)"
OWN="majority,self_certainty,answer_probability"

# The questions of base models, with the right scratchpad as the solution.
GOLD="strategies(scratchpad=1.0, direct=0.0, scratchpad_reliability=1.0"
GOLD+=", terms=5, train_size=60000)"

signals() {  # BASE PATTERN: the signals that its tasks can have
  local gold steps
  case $1 in
    share_* | reliable)
      # The first one pays for all but the decoy, right or wrong.
      echo "inverse(reward=contains(text=min)),$OUTCOME,$CONTROLS,$OWN\
,similarity(think=none),similarity(think=none)|grpo,sft"
      ;;
    chain_*)
      gold="chain(depth=4, ops='+-', pattern='$2', test_size=64)"
      steps="steps($gold, terse=True, think=False, last=True)"
      echo "$OUTCOME,$CONTROLS,self_certainty,similarity(think=none)\
,similarity(think=none) on $steps,similarity(think=none)|grpo on $steps\
,outcome on $steps,outcome|max_rl(variant=kept) on $steps,sft"
      ;;
    confident) echo "$OUTCOME,outcome+brier,brier,$CONTROLS,$OWN" ;;
    smollm2_*) echo "$OUTCOME,$CONTROLS,$OWN,sft" ;;
    questions)
      echo "outcome,outcome|rloo,outcome|max_rl,outcome|psr,outcome|nsr\
,$CONTROLS,turn_cost(value=-1.0),run,run|stepwise(gamma=1.0)\
,run|delta_belief(weight=0.1),outcome|delta_belief(weight=0.1)\
,win(value=1.0, at=every)|delta_belief(weight=0.1)"
      ;;
  esac
}

one() {  # BASE SEED
  local base=$1 seed=$2 pattern='' steps=0,5,10,20,40,80 flags=() run
  run="base=$base,seed=$seed"
  case $base in
    share_* | reliable)
      # The decoy is right by chance on one problem of ten: those are another
      # population, which pulls the other way.
      flags=(--pass_rate=0,0.7 --candidates=56 "--config.env=$GOLD")
      ;;
    chain_0) pattern=++++ ;;
    chain_1) pattern=+++- ;;
    chain_2) pattern=++-- ;;
    chain_3) pattern=+--- ;;
    questions) flags=(--config.dialogue.belief=current --prompts=12) ;;
    smollm2_*)  # about 2 s a rollout
      steps=0,8,16
      flags=(--prompts=16 --samples=32 --imitate=48)
      ;;
  esac
  "$PY" scripts/train.py --config="$CONFIG:base=$base,seed=$seed" --workdir="$RUNS/$run"
  "$PY" scripts/signal_map.py --workdir="$RUNS/$run" --steps="${STEPS:-$steps}" \
    --group=8 --rollouts=256 --pilot_step=0 "${flags[@]}" \
    --signals="$(signals "$base" "$pattern")"
  mkdir -p "$RESULTS/$run"
  cp "$RUNS/$run/config.json" "$RESULTS/$run"
  "$PY" - "$RUNS/$run/signal.jsonl" >"$RESULTS/$run/signal.jsonl" <<'EOF'
import json, sys
short = lambda v: float(f'{v:.5g}') if isinstance(v, float) else v
for line in map(json.loads, open(sys.argv[1])):
  if line['bin'] == 'all':
    print(json.dumps({k: short(v) for k, v in line.items()}))
EOF
}

if [ $# -eq 0 ]; then
  for seed in 0 1 2; do
    for base in share_1 share_3 share_12 share_30 share_65 reliable \
      confident chain_0 chain_1 chain_2 chain_3; do
      one "$base" "$seed"
    done
  done
  for base in questions smollm2_20 smollm2_99; do
    one "$base" 0
  done
else
  for word in "$@"; do
    one "${word%,*}" "${word#*,}"
  done
fi

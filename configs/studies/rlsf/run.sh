#!/usr/bin/env bash
# The study in full, from nothing; an interrupted one goes on.
#
#   bash configs/studies/rlsf/run.sh [--jobs=2]
#   bash configs/studies/rlsf/run.sh smollm2    # or qwen2.5_7b: its pairs alone
#
# Base models are in runs/substrate, their branches in runs/rlsf_pairs, the rest
# in runs/rlsf.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PY=${PY:-.venv/bin/python}
CONFIG=configs/studies/rlsf/rlsf.py

# Pairs of a base model's own branches of so many training tasks: of the first
# K, for each K; the file of samples is extended from one to the next.
pairs() {  # NAME ARG TASKS K...
  local name=$1 arg=$2 tasks=$3 run=runs/rlsf_pairs/$1 k out
  shift 3
  "$PY" scripts/train.py --config="$CONFIG:$arg,arm=none" --workdir="$run"
  for k in "$@"; do
    out=runs/rlsf/pairs_${name}_$k.jsonl
    [ -e "$out" ] && continue
    "$PY" scripts/evaluate.py --workdir="$run" --step=0 --tasks="$tasks" \
      --samples="$k" --config.eval.split=train
    "$PY" scripts/pairs.py --samples="$(ls "$run"/samples-0-*.jsonl)" \
      --score=answer_gap --which=best_worst --answers --out="$out"
  done
}

case ${1:-} in
  smollm2) pairs smollm2 scale=smollm2 128 10 ;;
  qwen2.5_7b) pairs qwen2.5_7b scale=qwen2.5_7b 7473 10 ;;
  *)
    for base in aligned opposed; do
      pairs "$base" "base=$base" 512 2 10
    done
    "$PY" scripts/sweep.py --config="$CONFIG" --workdir=runs/rlsf "$@"
    for base in aligned opposed; do
      "$PY" scripts/study.py runs/rlsf --arms="base=$base,arm=[!r]*" \
        --metrics='eval/cot_decoding@1,eval/cot_decoding@2,eval/cot_decoding@10,eval/cot_decoding_ece@1,eval/cot_decoding_ece@2,eval/answer_gap,eval/pass@10' \
        --over=accuracy --out="configs/studies/rlsf/$base"
    done
    ;;
esac

#!/usr/bin/env bash
# The study in full, from nothing; an interrupted one goes on.
#
#   bash configs/studies/rlsf/run.sh
#
# Base models are in runs/substrate, their branches in runs/rlsf_pairs, the rest
# in runs/rlsf.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PY=${PY:-.venv/bin/python}
CONFIG=configs/studies/rlsf/rlsf.py

# Pairs of the base models' own branches of 512 training tasks: of the first 2,
# then of 10, which the file of samples is extended to.
for base in aligned opposed; do
  run=runs/rlsf_pairs/$base
  "$PY" scripts/train.py --config="$CONFIG:base=$base,arm=none" --workdir="$run"
  for k in 2 10; do
    out=runs/rlsf/pairs_${base}_$k.jsonl
    [ -e "$out" ] && continue
    "$PY" scripts/evaluate.py --workdir="$run" --step=0 --tasks=512 \
      --samples="$k" --config.eval.split=train
    "$PY" scripts/pairs.py --samples="$(ls "$run"/samples-0-*.jsonl)" \
      --score=answer_gap --which=best_worst --answers --out="$out"
  done
done

"$PY" scripts/sweep.py --config="$CONFIG" --workdir=runs/rlsf "$@"
"$PY" scripts/study.py runs/rlsf --over=accuracy \
  --metrics='eval/cot_decoding@1,eval/cot_decoding@2,eval/cot_decoding@10,eval/cot_decoding_ece@1,eval/cot_decoding_ece@2,eval/cot_decoding_ece@10,eval/answer_gap,eval/answer_located' \
  --out=configs/studies/rlsf/study

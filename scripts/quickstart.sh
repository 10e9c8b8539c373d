#!/usr/bin/env bash
# From a fresh machine to a trained policy and its report.
#
#   bash scripts/quickstart.sh [--config.key=value ...]
#
# Needs Python 3.11 to 3.13 (python3, or the one that PYTHON names) and nothing
# else: no compiler, no GPU. Makes .venv, installs, trains. The same command
# again goes on where the last one stopped.
#
#   CONFIG   configs/quickstart.py       the config; CONFIG=configs/tiny.py
#   WORKDIR  runs/<name of the config>   where the run is
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup_env.sh
CONFIG=${CONFIG:-configs/quickstart.py}
name=$(basename "$CONFIG")
WORKDIR=${WORKDIR:-runs/$(echo "$name" | sed 's/\.py//; s/[^A-Za-z0-9_.-]/-/g')}

setup_env ''
echo "Training $CONFIG; curves and transcripts will be in $WORKDIR/report.html"
# In place of this shell, so that signals reach it and it saves.
exec "$PY" scripts/train.py --config="$CONFIG" --workdir="$WORKDIR" "$@"

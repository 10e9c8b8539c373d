#!/usr/bin/env bash
# From a fresh machine to a green test suite.
#
#   bash scripts/test.sh [fast] [ARGUMENTS OF PYTEST ...]
#
# fast: the maths alone, in a minute and a half: losses, statistics, verifiers,
# rewards, tasks and the registry; no model, no run, and none of the files that
# are marked as being about processes and generators.
#
# ruff and mypy go first, in either case.
#
# Tests run in as many processes as there are cores, at most 4, for each takes
# up to 6 GB. `-n 0` runs them in one, for a debugger.
#
# Uses .venv as quickstart.sh does, with the tools for tests in it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup_env.sh

if [ "${1:-}" = fast ]; then
  shift
  set -- tests/{ops,stats,verifiers,rewards,envs} tests/registry_test.py \
    -m 'not processes' "$@"
fi
setup_env 'test,gym,parquet,tensorboard,gcs'
"$PY" -m ruff check .
"$PY" -m ruff format --check .
"$PY" -m mypy
jobs=$("$PY" -c 'import os; print(min(4, os.cpu_count()))')
# Tests of a file share what they have made: one process runs them all. Files
# start in the order of tests/conftest.py.
"$PY" -m pytest -n "$jobs" --dist loadfile --no-loadscope-reorder "$@"

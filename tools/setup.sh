#!/bin/sh
# Make a virtual environment and install the locked dependencies and this project into it.
# Usage: tools/setup.sh VENV [LOCK]      (PYTHON=... chooses the interpreter; without LOCK only uv is installed)
# Package mirrors are whatever the environment and the configuration of pip and uv say; none is named here.
set -eu

venv=$1
lock=${2:-}
py=$venv/bin/python

fits='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'

find_python() {
    # A name on PATH may be a version manager's shim for a Python that is not there: run it, do not only look it up.
    for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 python; do
        if "$name" -c "$fits" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "edgepress needs Python 3.11, 3.12 or 3.13 with its venv module; none was found on PATH" >&2
    echo "  found: $(python3 --version 2>/dev/null || echo 'no python3')" >&2
    echo "  on Debian or Ubuntu: apt install python3 python3-venv" >&2
    echo "  elsewhere: name one, as in  make setup PYTHON=/path/to/python3.12" >&2
    exit 1
}

if ! "$py" -c "$fits" >/dev/null 2>&1; then
    python=$(find_python)
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi

need_pip() {
    "$py" -m pip --version >/dev/null 2>&1 || "$py" -m ensurepip >/dev/null
}

if ! "$venv/bin/uv" --version >/dev/null 2>&1; then
    need_pip
    "$py" -m pip install --quiet ${lock:+--constraint "$lock"} uv || echo "uv cannot be installed here; going on with pip" >&2
fi
[ -n "$lock" ] || exit 0

echo "installing the locked dependencies; the first time this may take minutes (torch is large)"
# uv does not read pip's configuration: where only pip knows the way to a mirror, pip does the work.
if ! { "$venv/bin/uv" --version >/dev/null 2>&1 && "$venv/bin/uv" pip sync --quiet --python "$py" "$lock"; }; then
    need_pip
    "$py" -m pip install --quiet --requirement "$lock"
fi

# The build backend is part of the lock, so this step needs no network.
if "$venv/bin/uv" --version >/dev/null 2>&1; then
    "$venv/bin/uv" pip install --quiet --python "$py" --no-deps --no-build-isolation --editable .
else
    "$py" -m pip install --quiet --no-deps --no-build-isolation --editable .
fi

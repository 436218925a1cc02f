#!/bin/sh
# Prove the base install: a fresh environment with requirements/base.lock and our wheel, and no torch, loads bundles
# and predicts. The bundles are those of zoo/, and one exported just now.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
py=.venv/bin/python

"$py" -m hatchling build --target wheel --directory "$work/wheel" >/dev/null
"$py" tools/base_bundle.py "$work/bundle"

"$py" -m venv "$work/venv"
base=$work/venv/bin/python
if ! { .venv/bin/uv --version >/dev/null 2>&1 &&
    .venv/bin/uv pip install --quiet --python "$base" --requirement requirements/base.lock; }; then
    "$base" -m pip install --quiet --requirement requirements/base.lock
fi
"$base" -m pip install --quiet --no-deps --no-index "$work/wheel/"*.whl

"$base" -I tools/base_predict.py "$work/bundle" zoo/*/
"$work/venv/bin/edgepress" --help >/dev/null

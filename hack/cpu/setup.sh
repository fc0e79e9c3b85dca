#!/bin/sh
# Make the trainer's environment for a machine without a GPU and print where it is.
#
#   hack/cpu/setup.sh        ->  ${POLICYOPS_CACHE:-~/.cache/policy-operator}/venv-trainer
#
# Downloads 0.7 GiB and takes 2 GB of disk; needs python3.11 with venv, gcc and binutils. Done once
# for each content of this folder: the stamp in the environment holds its hash.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${POLICYOPS_CACHE:-$HOME/.cache/policy-operator}
venv=$cache/venv-trainer
want=$(cat "$here/uv.lock" "$here/pyproject.toml" "$here/stubs.py" "$here/setup.sh" | sha256sum | cut -d' ' -f1)

mkdir -p "$cache"
exec 9>"$venv.lock"
flock 9 # two callers at once (tests and an image build) make it once

if [ "$(cat "$venv/.made-from" 2>/dev/null || true)" != "$want" ]; then
  if [ ! -x "$cache/boot/bin/uv" ]; then
    python3.11 -m venv "$cache/boot"
    "$cache/boot/bin/pip" install --quiet 'uv>=0.13,<0.14'
  fi
  export UV_CACHE_DIR="$cache/uv" UV_PROJECT_ENVIRONMENT="$venv"
  rm -f "$venv/.made-from"
  "$cache/boot/bin/uv" sync --project "$here" --frozen --python 3.11 --all-extras >&2
  "$venv/bin/python" "$here/stubs.py" >&2
  "$venv/bin/python" -c 'import torch; print("torch", torch.__version__)' >&2
  echo "$want" >"$venv/.made-from"
fi
echo "$venv"

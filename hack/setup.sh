#!/bin/sh
# Make the development environment (operator, tests, linters; no torch) outside the tree.
# Prints the folder of its programs. Needs python3 with venv and pip; asks before nothing.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${POLICYOPS_CACHE:-$HOME/.cache/policy-operator}
export UV_CACHE_DIR="${UV_CACHE_DIR:-$cache/uv}" UV_PROJECT_ENVIRONMENT="$cache/venv-dev"
mkdir -p "$cache"
if ! [ -x "$cache/boot/bin/uv" ]; then
    echo "installing uv into $cache/boot" >&2
    python3 -m venv "$cache/boot"
    "$cache/boot/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.13,<0.14' >&2
fi
"$cache/boot/bin/uv" sync --quiet --frozen --group dev --no-install-project --project "$root" >&2
echo "$cache/venv-dev/bin"

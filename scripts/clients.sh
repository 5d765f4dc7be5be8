#!/bin/sh
# Installs the stock clients (pinned) beside the tree and runs their programs against bin/maas.
set -eu
cd "$(dirname "$0")/.."
want=$(cksum < test/clients/python/requirements.txt)
if command -v python3 >/dev/null && [ "$(cat .tools/venv/.maas-lock 2>/dev/null)" != "$want" ]; then
  python3 -m venv .tools/venv && .tools/venv/bin/pip install -q --disable-pip-version-check -r test/clients/python/requirements.txt && echo "$want" > .tools/venv/.maas-lock
fi
if command -v npm >/dev/null; then
  (cd test/clients/node && { [ -d node_modules/openai ] || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; })
fi
[ -x .tools/venv/bin/python ] && export MAAS_PYTHON="$PWD/.tools/venv/bin/python"
MAAS_BIN="$PWD/bin/maas" go test -count=1 ./test/clients

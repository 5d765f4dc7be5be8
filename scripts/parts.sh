# Sourced: brings what tests compare with and sets the variables that name it. What cannot be had here is left out; the tests say so.
export MAAS_BIN="$PWD/bin/maas"
want=$(cksum < test/clients/python/requirements.txt)
if command -v python3 >/dev/null && [ "$(cat .tools/venv/.maas-lock 2>/dev/null)" != "$want" ]; then
  python3 -m venv .tools/venv && .tools/venv/bin/pip install -q --disable-pip-version-check -r test/clients/python/requirements.txt && echo "$want" > .tools/venv/.maas-lock
fi
[ -x .tools/venv/bin/python ] && export MAAS_PYTHON="$PWD/.tools/venv/bin/python"
# litellm as a client of ours: minutes to install and 380 MB, so only where it is asked for.
if [ -n "${MAAS_TEST_LITELLM:-}" ] && command -v python3 >/dev/null; then
  want=$(cksum < test/clients/python/requirements-litellm.txt)
  [ "$(cat .tools/venv-litellm/.maas-lock 2>/dev/null)" = "$want" ] ||
    { python3 -m venv .tools/venv-litellm && .tools/venv-litellm/bin/pip install -q --disable-pip-version-check -r test/clients/python/requirements-litellm.txt && echo "$want" > .tools/venv-litellm/.maas-lock; }
  export MAAS_LITELLM="$PWD/.tools/venv-litellm/bin/python"
fi
if command -v npm >/dev/null; then
  [ -d test/clients/node/node_modules/openai ] && [ -d test/clients/node/node_modules/@anthropic-ai/sdk ] || (cd test/clients/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  if command -v g++ >/dev/null; then
    MAAS_ORACLE=$(sh test/oracle/build.sh | tail -1)
    export MAAS_ORACLE
    sh test/oracle/fetch-llamacpp.sh >/dev/null
  fi
fi
if command -v npm >/dev/null; then
  npmdir="${MAAS_TEST_DIR:-/tmp/maas-test-$(id -u)}/npm"
  [ -d "$npmdir/node_modules/tus-js-client" ] || npm install --prefix "$npmdir" --ignore-scripts --no-audit --no-fund --loglevel=error tus-js-client@4.3.1 >/dev/null
fi

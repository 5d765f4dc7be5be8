#!/bin/sh
# Builds the console; with `test` also checks it; with `e2e` drives the real binary in Chromium.
set -eu
cd "$(dirname "$0")/../web"
if ! command -v npm >/dev/null; then
  [ -z "${MAAS_TEST_STRICT:-}" ] || { echo "npm is missing"; exit 1; }
  echo "SKIP: Node 20 with npm is missing; the console is not built and the binary shows a placeholder page"
  exit 0
fi
lock=$(cat package-lock.json package.json | cksum)
if [ "$(cat node_modules/.maas-lock 2>/dev/null)" != "$lock" ]; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  echo "$lock" > node_modules/.maas-lock
fi
case "${1:-build}" in
  build) npm run -s build ;;
  test) npm run -s typecheck && npm run -s lint && npm run -s unit && npm run -s build && npm run -s budget ;;
  e2e)
    if ! command -v chromium >/dev/null; then
      [ -z "${MAAS_TEST_STRICT:-}" ] || { echo "chromium is missing"; exit 1; }
      echo "SKIP: chromium is missing (sh scripts/deps.sh installs it)"
      exit 0
    fi
    MAAS_BIN="$(cd .. && pwd)/bin/maas" npm run -s e2e ;;
esac

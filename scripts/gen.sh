#!/bin/sh
# Rewrites every generated file. With `check`: fails when that changes anything.
set -eu
cd "$(dirname "$0")/.."
go test ./internal/cli -run 'TestGolden' -update >/dev/null
(cd internal/llm/kernel/gen && sh generate.sh >/dev/null)
if [ -d web/node_modules ]; then (cd web && npm run -s gen --if-present); fi
[ "${1:-}" = check ] || exit 0
changed=$(git status --porcelain -- api docs/reference internal/llm/kernel web/src/api)
[ -z "$changed" ] || { echo "generated files are out of date; run make gen:"; echo "$changed"; git diff --stat; exit 1; }

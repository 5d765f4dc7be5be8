#!/bin/sh
# Rewrites every generated file. With `check`: fails when that changes anything.
set -eu
cd "$(dirname "$0")/.."
go test ./internal/cli -run 'TestGolden' -update >/dev/null
go generate ./internal/llm/kernel
if [ -d web/node_modules ]; then (cd web && npx --no-install openapi-typescript ../api/openapi.yaml -o src/api/schema.d.ts >/dev/null); fi
[ "${1:-}" = check ] || exit 0
changed=$(git status --porcelain -- api docs/reference internal/llm/kernel web/src/api)
[ -z "$changed" ] || { echo "generated files are out of date; run make gen:"; echo "$changed"; git diff --stat; exit 1; }

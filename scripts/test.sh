#!/bin/sh
# Everything that CI runs, cheap first. A missing part is said loudly; with MAAS_TEST_STRICT=1 (CI) it fails.
set -eu
cd "$(dirname "$0")/.."
[ -n "${CI:-}" ] && export MAAS_TEST_STRICT=1
step() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - begin))"; }
begin=$(date +%s)

step "format, vet, architecture"
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted"; exit 1; }
go vet ./...
go test ./internal/archtest

step "console: types, lint, unit tests, build, budget"
sh scripts/web.sh test

step "unit and service tests"
go test ./...

step "generated files"
sh scripts/gen.sh check

step "binary"
make -s build
go version -m bin/maas | grep -q 'CGO_ENABLED=0'

step "stock clients against the binary"
sh scripts/clients.sh

step "parity with llama.cpp"
sh scripts/parity.sh

step "fuzz smoke"
go run ./tools/fuzz -time "${FUZZTIME:-20s}"

step "browser"
sh scripts/web.sh e2e
step "done"

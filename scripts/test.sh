#!/bin/sh
# Everything that CI runs, cheap first. A missing part is said loudly; with MAAS_TEST_STRICT=1 (CI) it fails.
set -eu
cd "$(dirname "$0")/.."
[ -n "${CI:-}" ] && export MAAS_TEST_STRICT=1
begin=$(date +%s)
step() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - begin))"; }

step "format, vet, architecture"
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted"; exit 1; }
go vet ./...
go test ./internal/archtest

step "console: types, lint, unit tests, build, budget"
sh scripts/web.sh test

step "binary, stock clients, llama.cpp to compare with"
make -s build
go version -m bin/maas | grep -q 'CGO_ENABLED=0'
. scripts/parts.sh

step "unit, service, scenario and client tests"
go test $(go list ./... | grep -v /test/parity)

step "breaking upstreams"
go run ./bench/faults -bin bin/maas -time "${SOAK:-20s}" -n 8

step "parity with llama.cpp"
go test -count=1 ./test/parity/...

step "generated files"
sh scripts/gen.sh check

step "gateway against nginx"
if command -v nginx >/dev/null; then
  sh bench/gateway/run.sh -quick -rounds 3 -d 1500ms -check bench/gateway/ratios.json -tolerance 0.75
elif [ "${MAAS_TEST_STRICT:-}" = 1 ]; then
  echo "nginx is missing: scripts/deps.sh installs it"; exit 1
else
  echo "SKIPPED: nginx is missing (scripts/deps.sh installs it)"
fi

step "fuzz smoke"
go run ./tools/fuzz -time "${FUZZTIME:-30s}"

step "browser"
sh scripts/web.sh e2e
step "done"

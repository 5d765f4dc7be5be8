#!/bin/sh
# golangci-lint of a pinned version, built once into .tools/.
set -eu
cd "$(dirname "$0")/.."
version=v2.15.0
bin="$PWD/.tools/golangci-lint-$version"
[ -x "$bin" ] || { GOBIN="$PWD/.tools" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version" && mv .tools/golangci-lint "$bin"; }
exec "$bin" run ./...

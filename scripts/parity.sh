#!/bin/sh
# Compares the native engine with llama.cpp: builds the oracle (npm, git, g++), then runs the tests that use it.
set -eu
cd "$(dirname "$0")/.."
if command -v npm >/dev/null && command -v g++ >/dev/null; then
  MAAS_ORACLE=$(sh test/oracle/build.sh | tail -1)
  MAAS_LLAMACPP=$(sh test/oracle/fetch-llamacpp.sh | tail -1)
  export MAAS_ORACLE MAAS_LLAMACPP
fi
go test -count=1 ./internal/llm/token ./internal/llm/chat ./internal/llm/run ./test/parity/...

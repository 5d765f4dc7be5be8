#!/bin/sh
# Compares the native engine with llama.cpp: ids, logits, templates, CPU time.
set -eu
cd "$(dirname "$0")/.."
. scripts/parts.sh
go test -count=1 ./internal/llm/token ./internal/llm/chat ./internal/llm/run ./test/parity/...

#!/bin/sh
# Runs the programs of stock clients against bin/maas.
set -eu
cd "$(dirname "$0")/.."
. scripts/parts.sh
go test -count=1 ./test/clients

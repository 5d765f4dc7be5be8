#!/bin/sh
# Writes the assembly and its Go declarations next to the hand-written kernels. Needs the modules of go.mod here, which the product does not.
set -eu
cd "$(dirname "$0")/.."
go generate .

#!/bin/sh
# CPU per request and per streamed event, memory of streams, features and keys: ratios to nginx as a plain proxy. Needs nginx (Debian: nginx-light). PROFILE=file writes a CPU profile of maas.
#   bench/gateway/run.sh [-quick] [-rounds 3] [-check bench/gateway/ratios.json] [-write bench/gateway/ratios.json]
set -eu
cd "$(dirname "$0")/../.."
[ -x bin/maas ] || make -s build
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd bench/gateway && go build -o "$dir/ratio" ./ratio)
"$dir/ratio" -maas bin/maas ${PROFILE:+-profile "$PROFILE"} "$@"

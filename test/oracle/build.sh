#!/bin/sh
# Builds the oracle into ${1:-$HOME/.cache/maas/oracle}: fetches the prebuilt libraries and the headers from npm, compiles oracle.cpp against them. Needs npm, git and g++; nothing is installed outside.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/maas/oracle}
version=3.22.1
mkdir -p "$to"
cd "$to"
if [ ! -e "$to/npm-$version" ]; then
	[ -e package.json ] || echo '{"private":true}' >package.json
	npm install --ignore-scripts --no-audit --no-fund "node-llama-cpp@$version" "@node-llama-cpp/linux-x64@$version"
	touch "$to/npm-$version"
fi
lib=$to/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
if [ ! -e "$to/src/include/llama.h" ]; then
	rm -rf "$to/src"
	git -c advice.detachedHead=false clone --quiet "$to/node_modules/node-llama-cpp/llama/gitRelease.bundle" "$to/src"
fi
llama=$(ls "$lib"/libllama.v*.so)
ggml=$(ls "$lib"/libggml.v*.so)
g++ -std=c++17 -O2 -Wall -DORACLE_LIB="\"$lib\"" -I"$to/src/include" -I"$to/src/ggml/include" "$here/oracle.cpp" \
	"$llama" "$ggml" "$lib/libggml-base.so" -Wl,-rpath,"$lib" -o "$to/oracle"
echo "$to/oracle"

#!/bin/sh
# Fetches the source of llama.cpp, which holds vocabularies with expected ids and chat templates, into ${1:-$HOME/.cache/maas/oracle}/src and prints that folder. Needs npm and git; nothing is installed
# outside. The files belong to other projects and are never copied into this repository. Tests find the folder through internal/maastest/oracle.
set -eu
to=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/maas/oracle}
version=3.22.1
mkdir -p "$to"
cd "$to"
if [ ! -e "$to/src/include/llama.h" ]; then
	[ -e package.json ] || echo '{"private":true}' >package.json
	[ -e "$to/node_modules/node-llama-cpp/llama/gitRelease.bundle" ] ||
		npm install --ignore-scripts --no-audit --no-fund --omit=optional "node-llama-cpp@$version" >&2
	rm -rf "$to/src" "$to/src.new"
	git -c advice.detachedHead=false clone --quiet "$to/node_modules/node-llama-cpp/llama/gitRelease.bundle" "$to/src.new"
	mv "$to/src.new" "$to/src"
fi
echo "$to/src"

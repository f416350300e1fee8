#!/usr/bin/env bash
# What gcc compiled without a warning, clang reads without one: each command of
# the build with the other compiler, which only checks. Takes seconds.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${GODWIT_BUILD:-build}")
commands=$build/compile_commands.json
[[ -e $commands ]] || { echo "no $commands: run cmake first"; exit 1; }
cd "$build"
sed -nE 's/^ *"command": "[^ ]+ (.*)",?$/clang -fsyntax-only -Wno-unknown-warning-option \1/p' "$commands" |
	sed -E 's/ -o [^ ]+//; s/\\(["\\])/\1/g' | tr '\n' '\0' |
	xargs -0 -n 1 -P "$(nproc)" sh -c

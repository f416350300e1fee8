#!/usr/bin/env bash
# clang-tidy over what is compiled (.clang-tidy says what is asked for, and why
# the rest is not). Takes minutes: label slow.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${GODWIT_BUILD:-build}
[[ -e $build/compile_commands.json ]] || { echo "no $build/compile_commands.json: run cmake first"; exit 1; }
find engine proto criu-glue migrate tools -name '*.c' -not -name '*.bpf.c' -print0 |
	xargs -0 -r -n 4 -P "$(nproc)" clang-tidy --quiet -p "$build" --warnings-as-errors='*'

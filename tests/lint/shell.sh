#!/usr/bin/env bash
# Every script is fine with shellcheck, whatever the name of its file.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t scripts < <(
	find . -path ./.git -prune -o -name 'build*' -prune -o -type f -size -200k -print0 |
		xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh( |$)|^# shellcheck shell=/ { print FILENAME } { nextfile }'
)
exec shellcheck --external-sources --source-path=. "${scripts[@]}"

#!/usr/bin/env bash
# Each fault point of the table is passed by some code, each that is passed is in the
# table, and what passes one compiles without them (-DGODWIT_FAULTS=OFF), too.
set -euo pipefail
cd "$(dirname "$0")/../.."
bad=0
passed=$(grep -rhoE --include='*.[ch]' --exclude-dir='build*' 'fault_(point|pass|value)\("[^"]+"' engine criu-glue proto migrate tools |
	sed -E 's/.*"(.*)"/\1/' | sort -u)
listed=$(sed '/fault_files\[\]/,$d' engine/base/fault_table.c | sed -nE 's/^\t\{ "([^"]+)", "[^"]+".*/\1/p' | sort -u)
(($(wc -l <<<"$listed") > 30)) || { echo 'found too few points in engine/base/fault_table.c: has its form changed?'; bad=1; }
while read -r line; do
	echo "fault point $line"
	bad=1
done < <(comm -3 <(echo "$passed") <(echo "$listed") --output-delimiter=$'\t' |
	sed -E 's/^\t(.*)/\1: no code passes it/; t; s/$/: not in engine\/base\/fault_table.c/')
while read -r file; do
	${CC:-cc} -std=gnu17 -Wall -Wextra -Werror -D_GNU_SOURCE -DGODWIT_VERSION='""' -I. -I"${GODWIT_BUILD:-build}" \
		-fsyntax-only "$file" || bad=1
done < <(grep -rlE --include='*.c' --exclude-dir='build*' '"engine/base/fault.h"' engine criu-glue migrate tools)
exit $bad

#!/usr/bin/env bash
# Files and functions stay small, lines short. Above the first number it warns,
# above the second it fails; of lines beyond 100 columns it tells the number. A unit test is one file a module,
# so it may be longer.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck disable=SC2016 # awk's variables
find engine proto criu-glue migrate tools tests -name '*.[ch]' -print0 |
	xargs -0 -r awk -v file_warn=300 -v file_max=500 -v fn_warn=70 -v fn_max=110 -v columns_warn=100 -v columns_max=120 '
function tell(what, have, warn, max) {
	if (have > warn)
		printf("%s%s: %d lines (aim at %d, %d at most)\n", (have > max ? "TOO LONG " : ""),
		       what, have, warn, max)
	if (have > max)
		bad = 1
}
function width(line,	i, n) {
	for (i = 1; i <= length(line); i++)
		n = substr(line, i, 1) == "\t" ? n + 8 - n % 8 : n + 1
	return n
}
function tell_file() {
	if (file ~ /^tests\//)
		tell(file, lines, file_warn + 200, file_max + 200)
	else if (file)
		tell(file, lines, file_warn, file_max)
}
FNR == 1 { tell_file(); file = FILENAME; start = 0 }
{ lines = FNR }
length($0) > columns_warn / 8 && (have = width($0)) > columns_warn {
	wide++
	if (have > columns_max) {
		printf("TOO WIDE %s:%d: %d columns\n", FILENAME, FNR, have)
		bad = 1
	}
}
/^{/ { start = FNR; name = before; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
/^}/ && start { tell(FILENAME ": " name, FNR - start, fn_warn, fn_max); start = 0 }
/^[a-z].*\(/ { before = $0 }
END { tell_file(); if (wide) printf("%d lines beyond %d columns\n", wide, columns_warn); exit bad }'

#!/bin/sh
# Fails on an #include that climbs the stack: one line per folder, what it may use.
# tools -> migrate -> engine, criu-glue, proto -> engine/base
set -eu
cd "$(dirname "$0")/../.."
bad=0

# Prints file:layer for each of our includes below $1; engine/base counts as a layer of its own.
includes() {
	grep -rHoE '^[[:space:]]*#[[:space:]]*include "[^"]+/' --include='*.[ch]' "$@" |
		sed -E 's/^([^:]*):.*"(engine\/base|[^/"]+)\/.*/\1 \2/' | sort -u
}

allow() {
	layer=$1
	shift
	files=$(find "${layer}" -name '*.[ch]')
	[ "$layer" != engine ] || files=$(find engine -name '*.[ch]' -not -path 'engine/base/*')
	[ -n "$files" ] || return 0
	# shellcheck disable=SC2086 # file names here have no blanks
	includes $files > "$tmp" || true
	while read -r file used; do
		case " $layer $* " in
		*" $used "*) ;;
		*) echo "$file: $layer must not include $used/"; bad=1 ;;
		esac
	done < "$tmp"
}

tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
allow engine/base
allow proto engine/base
allow criu-glue engine/base
allow engine engine/base
allow migrate engine/base engine criu-glue proto
allow tools engine/base engine migrate
exit $bad

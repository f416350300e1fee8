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

# The same for a folder in a layer: what else of that layer it may use.
allow_within() {
	folder=$1
	layer=${1%%/*}
	shift
	grep -rHoE "^#include \"${layer}/([a-z]+/)?" --include='*.[ch]' "$folder" | sed -E 's/:.*"/ /; s#/$##' > "$tmp" || true
	while read -r file used; do
		case " $folder engine/base $* " in
		*" $used "*) ;;
		*) echo "$file: $folder must not include $used/"; bad=1 ;;
		esac
	done < "$tmp"
}

allow engine/base
allow proto engine/base
allow criu-glue engine/base
allow engine engine/base
allow migrate engine/base engine criu-glue proto
allow tools engine/base engine migrate
allow_within engine/image
allow_within migrate/tls
allow_within migrate/channel migrate/tls
allow_within migrate/files migrate/channel migrate/memory migrate/tls
allow_within migrate/network migrate/channel
allow_within migrate/admission migrate/network
exit $bad

# shellcheck shell=bash
# build.sh - set-up and a quiet release build, for the programs that run godwit (to be sourced)
#
#   build_godwit demo       installs what is missing, builds into build/, sets GODWIT_BUILD
#   build_godwit bench workload-fill        that, and more targets
#
# With $GODWIT_BUILD set, as the tests do, that build is taken as it is. Nothing
# is printed unless it takes long or fails; then the name in front is the caller's.

build_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

build_fail() {
	printf '%s: %s\n' "$1" "$2" >&2
	exit 3
}

# One at a time in this tree. The lock is on its folder, so that no file stays.
build_locked() {
	local caller=$1 log=$2
	shift 2
	exec 9<"$build_top"
	flock --nonblock 9 || {
		echo "$caller: somebody builds or tests in this tree; waiting for that" >&2
		flock 9
	}
	[[ -e $build_top/build/build.ninja ]] || echo "$caller: building godwit for the first time" >&2
	(cd "$build_top" && cmake --preset release && cmake --build build --target godwit "$@") \
		>"$log" 2>&1 </dev/null 9<&-
}

build_godwit() {
	local caller=$1 log status=0
	shift
	((EUID == 0)) || build_fail "$caller" "takes root: sudo tools/$caller"
	"$build_top/tools/setup" --for demo || build_fail "$caller" 'set-up failed'
	if [[ -z ${GODWIT_BUILD-} ]]; then
		log=$(mktemp)
		build_locked "$caller" "$log" "$@" || status=$?
		exec 9<&-
		((status == 0)) || tail -n 30 "$log" >&2
		rm -f "$log"
		((status == 0)) || build_fail "$caller" 'the build failed'
		export GODWIT_BUILD=$build_top/build
	fi
	[[ -x $GODWIT_BUILD/tools/godwit ]] ||
		build_fail "$caller" "there is no godwit in GODWIT_BUILD=$GODWIT_BUILD"
}

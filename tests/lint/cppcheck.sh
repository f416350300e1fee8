#!/usr/bin/env bash
# cppcheck over what is compiled. Not asked for, with the reason:
#   missingIncludeSystem  it need not see the headers of libc
#   normalCheckLevelMaxBranches, checkersReport, toomanyconfigs  they are only remarks
#   memleak               it does not know __attribute__((cleanup))
#   unknownMacro          CLEANUP() before a declaration, in versions that don't expand it
#   constStatement        register variables of inline assembly look like one
#   uninitvar in the shim a word that the kernel fills
#   internalAstError      it cannot parse a compound literal in a conditional
#   ctuuninitvar          a struct that the called function fills
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${GODWIT_BUILD:-build}
mkdir -p "$build/cppcheck"
exec cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c17 -j "$(nproc)" \
	--cppcheck-build-dir="$build/cppcheck" --enable=warning,portability -I . -I "$build" \
	--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
	--suppress=checkersReport --suppress=toomanyconfigs --suppress=memleak --suppress=constStatement \
	--suppress=uninitvar:criu-glue/shim/shim.c --suppress=internalAstError --suppress=ctuuninitvar --suppress=unknownMacro \
	engine proto criu-glue migrate tools

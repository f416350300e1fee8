#!/usr/bin/env bash
# C sources are as clang-format has them (what it may not decide: format.py).
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(find engine proto criu-glue migrate tools tests -name '*.[ch]')
exec /usr/bin/python3 tests/lint/format.py "${files[@]}"

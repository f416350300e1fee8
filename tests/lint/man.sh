#!/usr/bin/env bash
# The manual page and the tables of commands and options say the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
/usr/bin/python3 -B tests/lint/man.py
! command -v mandoc >/dev/null || mandoc -T lint -W warning tools/godwit.8

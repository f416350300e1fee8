#!/usr/bin/env bash
# Nothing in the tree names a package host or a folder of one machine: both
# come from the machine that it runs on.
set -euo pipefail
cd "$(dirname "$0")/../.."
hosts='(deb|security|snapshot|archive|ftp)\.debian\.org|archive\.ubuntu\.com|pypi\.org|npmjs\.org|crates\.io|golang\.org/|docker\.io|ghcr\.io|quay\.io|gcr\.io'
folders='/work/(main|wt|shared|brief)|/home/[a-z]+/(src|git|work|godwit)'
found=$(grep -rnIE --exclude-dir=.git --exclude-dir='build*' --exclude=words.sh --exclude=.git \
	-e "$hosts" -e "$folders" . || true)
[[ -z $found ]] || { printf '%s\n' "$found"; exit 1; }

#!/usr/bin/env bash
# Each field of config.json that the OCI runtime understands has a test that is marked with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/lib/oci-features --check

#!/usr/bin/env bash
# Runs a load scenario: builds the driver and hands over. loadtest/README.md says more.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export CGO_ENABLED=0 GOTOOLCHAIN=local
mkdir -p "$root/loadtest/bin"
go -C "$root/loadtest/run" build -o "$root/loadtest/bin/run" .
exec "$root/loadtest/bin/run" --root "$root" "$@"

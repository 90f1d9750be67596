#!/usr/bin/env bash
# Everything that must hold for a change. The last line counts the tests.
set -uo pipefail
cd "$(dirname "$0")/.."

echo "== types, lint, format, dead code" && make --no-print-directory check || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
echo "== the supervisor: driver, sanitizers, fuzzer" && bash images/supervisor/test.sh
supervisor=$?
echo "== unit and engine tests"
exec node --import tsx scripts/suite.ts "$supervisor"

#!/usr/bin/env bash
# Everything that must hold for a change. The last line counts the tests.
set -uo pipefail
cd "$(dirname "$0")/.."
report=$(mktemp)
trap 'rm -f "$report"' EXIT

echo "== types, lint, format, dead code" && make --no-print-directory check || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
echo "== the supervisor: driver, sanitizers, fuzzer" && bash images/supervisor/test.sh
supervisor=$?
echo "== unit and engine tests"
npx vitest run --project unit --project together --project engine --reporter=default --reporter=json --outputFile.json="$report"
vitest=$?
node - "$report" "$supervisor" "$vitest" <<'JS'
const [file, supervisor, vitest] = process.argv.slice(2);
let report = { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, testResults: [] };
try { report = JSON.parse(require('node:fs').readFileSync(file, 'utf8')); } catch { console.error('vitest left no report'); }
const skipped = report.numPendingTests + (report.numTodoTests ?? 0);
const crashed = report.numFailedTests === 0 && Number(vitest) !== 0 ? 1 : 0;
const failed = report.numFailedTests + crashed + (Number(supervisor) === 0 ? 0 : 1);
const passed = report.numPassedTests + (Number(supervisor) === 0 ? 1 : 0);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 ? 0 : 1);
JS

#!/usr/bin/env bash
# The main job on real input: a git repository with a failing test, a scripted agent, a sealed box. Takes about ten seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
glovebox="node $PWD/bin/glovebox.js"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A real repository: the agent works on a copy of it, inside; this one is never touched.
cp -r examples/ledger "$work/ledger"
git -C "$work/ledger" -c init.defaultBranch=main init -q
git -C "$work/ledger" add -A
git -C "$work/ledger" -c user.name=demo -c user.email=demo@example.org commit -qm 'ledger 1.0'

echo "A scripted agent works on a repository with a failing test, inside a sealed container."
$glovebox play examples/demo.jsonl --policy examples/demo-policy.yaml --workspace "$work/ledger" --intent "make the failing test pass" --approve dependency < /dev/null

echo; echo "Why was the push refused? (glovebox policy why):"
$glovebox policy why examples/demo-policy.yaml -- git push | sed 's/^/    /' || true

run=$($glovebox runs --number 1 --json | node -p 'JSON.parse(require("fs").readFileSync(0, "utf8"))[0].run')
echo; echo "The diff (glovebox diff ${run:0:12}…):"
$glovebox diff "$run" | sed 's/^/    /'
echo; echo "It applies to the repository it came from:"
$glovebox diff "$run" | git -C "$work/ledger" apply --check --verbose - 2>&1 | sed 's/^/    /'
echo; echo "The journal (glovebox log ${run:0:12}…):"
$glovebox log "$run" | cut -c1-150 | sed 's/^/    /'
echo; echo "And it has not been tampered with (glovebox check):"
$glovebox check "$run" | sed 's/^/    /'
echo
echo "Next: npx glovebox run -w . -- ls     npx glovebox shell -w .     npx glovebox doctor     README.md"

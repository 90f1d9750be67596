#!/usr/bin/env bash
# The main job on real input: a git repository with a failing test, a scripted agent, a sealed box; from the run to a commit and back, in
# about twenty seconds. What it has made stays in .demo until the next one, to be looked at.
set -euo pipefail
cd "$(dirname "$0")/.."
glovebox="node $PWD/bin/glovebox.js"
work="$PWD/.demo"
rm -rf "$work"; mkdir "$work"

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
echo; echo "The journal (glovebox log ${run:0:12}…), and that it has not been tampered with (glovebox check):"
$glovebox log "$run" | cut -c1-150 | sed 's/^/    /'
$glovebox check "$run" | sed 's/^/    /'

echo; echo "It is judged in clean sandboxes, by the gates of its policy (glovebox verify):"
$glovebox verify "$run" 2>&1 | sed 's/^/    /' || true
echo; echo "All of it becomes one signed file (glovebox export), which anybody with the public key can check:"
bundle="$work/bundle.tar"
$glovebox export "$run" --output "$bundle" 2> /dev/null | sed 's/^/    /'
$glovebox signing-key > "$work/key.pem" 2> /dev/null
$glovebox check "$bundle" --key "$work/key.pem" | sed 's/^/    /'
echo; echo "Nothing goes on that nobody has looked at (glovebox promote):"
$glovebox promote "$bundle" --repo "$work/ledger" 2>&1 | sed 's/^/    /' || true
echo; echo "Somebody reads it (glovebox review), and it becomes a commit on a branch of its own:"
$glovebox review "$bundle" --accept --as ada 2> /dev/null | sed -n 1p | sed 's/^/    /'
$glovebox promote "$bundle" --repo "$work/ledger" 2>&1 | sed 's/^/    /'
branch="glovebox/${run:0:10}"
git -C "$work/ledger" log --stat --format='%h %s%n%n%(trailers)' "main..$branch" | sed 's/^/    /'
echo; echo "Somebody changes their mind (glovebox rollback):"
$glovebox rollback "$run" --reason "the books are closed this week" | sed 's/^/    /'
git -C "$work/ledger" log --oneline "main..$branch" | sed 's/^/    /'
git -C "$work/ledger" diff --quiet main "$branch" && echo "    $branch has the files of main again."

echo; echo "The second act: the same command on the same files prints something else elsewhere. Why? (glovebox drift):"
{ cat examples/demo-policy.yaml; echo 'env: { set: { TZ: JST-9 } }'; } > "$work/elsewhere.yaml"
for policy in examples/demo-policy.yaml "$work/elsewhere.yaml"; do
  $glovebox run --json -p "$policy" -w "$work/ledger" -- date -d @1767193200 '+booked on %F at %R' > "$work/ran.json"
  node -p 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).result.data.output.text.trim()' "$work/ran.json" | sed 's/^/    /'
  there=${here:-}; here=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).run' "$work/ran.json")
done
$glovebox drift "$there" "$here" | sed -n '1s/^/    /p' || true
echo
echo "Look at it: git -C .demo/ledger log -p --all     tar -tf .demo/bundle.tar     npx glovebox review ${run:0:12}"
echo "Next: npx glovebox run -w . -- ls     npx glovebox shell -w .     npx glovebox doctor     README.md"

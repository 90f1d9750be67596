# What the agent of the example does: a change in the write scope, and a check of it. $PWD is the workspace.
set -eu
mkdir -p src
printf 'answer = 42\n' > src/answer.txt
grep -q 42 src/answer.txt

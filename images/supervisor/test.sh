#!/bin/sh
# Everything that must hold of the supervisor, in under a minute: the driver on the plain and on the sanitized build, and
# beside them the fuzzers, which take only the time that the others leave. Needs root (unshare, the tools' user) and clang;
# says what is missing.
set -eu
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || { echo "supervisor: its tests need root: they make pid namespaces and act as another user" >&2; exit 1; }
export PYTHONDONTWRITEBYTECODE=1
./build.sh
./build.sh --asan &
asan=$!
./build.sh --fuzz
wait "$asan"

# Each to a file of its own, shown whole: lines of two drivers would mix.
python3 test/run.py "build/supervisor-$(uname -m)" >build/driver-plain.log 2>&1 &
plain=$!
python3 test/run.py build/supervisor-asan >build/driver-asan.log 2>&1 &
asan=$!
nice -n 19 fuzz/fuzz.sh 10 >build/fuzzers.log 2>&1 &
fuzz=$!
failed=0
wait "$plain" || failed=1
cat build/driver-plain.log
wait "$asan" || failed=1
cat build/driver-asan.log
wait "$fuzz" || failed=1
cat build/fuzzers.log
exit "$failed"

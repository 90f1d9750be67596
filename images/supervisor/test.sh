#!/bin/sh
# Everything that must hold of the supervisor, in about a minute: the driver on the plain and on the sanitized build, then
# the fuzzers for ten seconds. Needs root (unshare, the tools' user) and clang; says what is missing.
set -eu
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || { echo "supervisor: its tests need root: they make pid namespaces and act as another user" >&2; exit 1; }
export PYTHONDONTWRITEBYTECODE=1
./build.sh
./build.sh --asan
python3 test/run.py "build/supervisor-$(uname -m)"
python3 test/run.py build/supervisor-asan
fuzz/fuzz.sh 10

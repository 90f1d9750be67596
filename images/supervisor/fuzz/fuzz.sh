#!/bin/sh
# Fuzzes the supervisor's parsers from the kept corpus: fuzz.sh [seconds, of all together; default 10] [--keep]
# --keep merges what was found into fuzz/corpus (small inputs that reach new code only).
set -eu
cd "$(dirname "$0")/.."
seconds=$(( (${1:-10} + 3) / 4 ))
./build.sh --fuzz
for name in frames gateway spec unpack; do
  found=build/corpus-$name
  rm -rf "$found" && mkdir -p "$found"
  if ! "build/fuzz-$name" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 -artifact_prefix="build/crash-$name-" \
    "$found" "fuzz/corpus/$name" >"build/fuzz-$name.log" 2>&1; then
    tail -40 "build/fuzz-$name.log" >&2
    echo "supervisor: the $name fuzzer found something; the input is build/crash-$name-*" >&2
    exit 1
  fi
  if [ "${2:-}" = --keep ]; then
    "build/fuzz-$name" -merge=1 -max_len=1024 "fuzz/corpus/$name" "$found" >/dev/null 2>&1
  fi
  echo "supervisor: fuzzed $name, $(sed -n 's/stat::number_of_executed_units: *//p' "build/fuzz-$name.log") inputs"
done

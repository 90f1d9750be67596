#!/usr/bin/env bash
# Compiles src/ to dist/ when a source is newer than the last build.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=dist/.built
if [ ! -f "$stamp" ] || [ -n "$(find src tsconfig.json tsconfig.build.json package.json -newer "$stamp" -print -quit)" ]; then
  rm -rf dist
  npx tsc -p tsconfig.build.json
  find src -name '*.json' -print0 | while IFS= read -r -d '' file; do
    mkdir -p "dist/$(dirname "${file#src/}")" && cp "$file" "dist/${file#src/}"
  done
  touch "$stamp"
fi

#!/usr/bin/env bash
# Compiles src/ to dist/ when a source is newer than the last build. A failed build leaves the last one in place.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=dist/.built
if [ ! -f "$stamp" ] || [ -n "$(find src tsconfig.json tsconfig.build.json package.json -newer "$stamp" -print -quit)" ]; then
  rm -rf dist.new
  npx tsc -p tsconfig.build.json --outDir dist.new
  cp src/stats/page/page.css src/stats/page/plots.js dist.new/stats/page/
  touch dist.new/.built
  rm -rf dist
  mv dist.new dist
fi

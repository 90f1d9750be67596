#!/usr/bin/env bash
# Compiles src/ to dist/ when a source is newer than the last build. A failed build leaves the last one in place.
# A few files instead of hundreds: a command line is there in half the time. Packages stay packages.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=dist/.built
if [ ! -f "$stamp" ] || [ -n "$(find src tsconfig.json tsconfig.build.json package.json scripts/build.sh -newer "$stamp" -print -quit)" ]; then
  rm -rf dist.new
  npx esbuild src/command-line.ts src/main.ts src/client/client.ts --outdir=dist.new --outbase=src \
    --bundle --splitting --chunk-names=chunks/[name]-[hash] --packages=external --platform=node --format=esm --target=node20 \
    --sourcemap --sources-content=false --log-level=warning
  npx tsc -p tsconfig.build.json --outDir dist.new
  touch dist.new/.built
  rm -rf dist
  mv dist.new dist
fi

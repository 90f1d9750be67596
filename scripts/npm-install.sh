#!/usr/bin/env bash
# Installs the locked npm packages; an npm call that hangs is given up and tried again.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v node >/dev/null || ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
  echo "glovebox needs Node.js >= 20.19 (found: $(node --version 2>/dev/null || echo none)). Install it from your package manager or https://nodejs.org, then run make again." >&2
  exit 1
fi
# Not `npm ci`: registries that hold only some platforms' optional binaries leave a lock that it calls out of sync.
# `--no-save` keeps to the lock and never writes it.
for attempt in 1 2 3; do
  if timeout 240 npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error; then
    mkdir -p node_modules/.bin && ln -sfn ../../bin/glovebox.js node_modules/.bin/glovebox
    exit 0
  fi
  echo "npm install did not finish (attempt $attempt of 3)" >&2
done
echo "The npm packages could not be installed. Check that the npm registry is reachable (npm ping), then run make again." >&2
exit 1

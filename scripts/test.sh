#!/usr/bin/env bash
# Everything that must hold for a change. The last line counts the tests.
cd "$(dirname "$0")/.."
exec node --import tsx scripts/suite.ts

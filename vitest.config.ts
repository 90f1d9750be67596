import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { ReportWriter } from './scripts/suite/report.ts';

/** Where `scripts/suite.ts` wants to read what a run came to. */
const report = process.env['GLOVEBOX_TEST_REPORT'];

const setupFiles = ['test/fixtures/seed.ts'];

/** They share nothing but the engine and the sources, and measure no time. Each makes a data directory of its own. */
const together = [
  'adopt',
  'blame',
  'ci',
  'bridge-codex',
  'bundle',
  'cli',
  'cli-service',
  'client',
  'clock',
  'clock-restart',
  'common-tools',
  'control',
  'credentials',
  'egress',
  'egress-clients',
  'egress-loss',
  'egress-registries',
  'engine-contract',
  'drift',
  'drift-corpus',
  'environment',
  'environment-egress',
  'fingerprint',
  'fork',
  'gateway',
  'hardening-body',
  'http',
  'http-limits',
  'harnesses',
  'images',
  'inputs',
  'isolation',
  'load',
  'mcp',
  'mcp-clients',
  'mcp-http',
  'overlay',
  'policy-run',
  'promotion',
  'pool',
  'real-project',
  'reconcile',
  'replay',
  'resume',
  'resume-held',
  'recovery',
  'run',
  'sandbox',
  'serve',
  'security/egress',
  'security/egress-canaries',
  'security/egress-names',
  'security/egress-requests',
  'security/egress-slow',
  'security/files',
  'security/kernel',
  'security/network',
  'security/privilege',
  'tools',
  'verify',
  'workspace',
].map((name) => `test/${name}.test.ts`);

/** They wait for what does not answer, most of the time, and are held to seconds: two at once, each with a processor. */
const byTwos = [
  'context',
  'deep-tree',
  'engine-transport',
  'faults',
  'kill-tree',
  'sandbox-loss',
  'security/egress-faults',
  'security/egress-limits',
].map((name) => `test/${name}.test.ts`);

/** Pure code that is held to a time. */
const timed = [
  'bundle/hostile',
  'egress/fence',
  'egress/outside/network',
  'policy/decisions/egress-rules',
  'policy/decisions/request-url',
  'sandbox/gateway/intake',
  'run/large-answers',
  'service/call-record',
  'stats/many-facts',
  'tools/search',
  'workspace/changes/classify',
  'workspace/scope/scope',
].map((name) => `src/${name}.test.ts`);

/**
 * Files of both projects, three at once, since much of it is waiting; one group, so that no processor waits for the last file of one
 * project before the next one begins.
 */
const besideEachOther = { maxWorkers: 3, sequence: { groupOrder: 1 } };

export default defineConfig({
  test: {
    reporters: report === undefined ? ['default'] : ['default', new ReportWriter(report)],
    projects: [
      // Pure code: no engine, no network, runs anywhere. It keeps nothing in its modules, so that files can share them.
      {
        test: {
          name: 'unit',
          isolate: false,
          setupFiles,
          include: ['{src,scripts}/**/*.test.ts', 'test/tidy.test.ts'],
          exclude: timed,
          ...besideEachOther,
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'together',
          isolate: false,
          setupFiles,
          alias: { 'glovebox/client': fileURLToPath(new URL('src/client/client.ts', import.meta.url)) },
          include: together,
          ...besideEachOther,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'by-twos',
          setupFiles,
          include: byTwos,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      { test: { name: 'timed', setupFiles, include: timed, fileParallelism: false, testTimeout: 30_000 } },
      // What else needs a real engine. One file at a time: the engine is shared and timings matter.
      {
        test: {
          name: 'engine',
          setupFiles,
          include: ['test/**/*.test.ts'],
          exclude: ['test/tidy.test.ts', 'test/soak/**', ...together, ...byTwos],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'soak',
          include: ['test/soak/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 1_800_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});

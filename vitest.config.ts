import { defineConfig } from 'vitest/config';

const setupFiles = ['test/fixtures/seed.ts'];

export default defineConfig({
  test: {
    projects: [
      // Pure code: no engine, no network, runs anywhere.
      { test: { name: 'unit', setupFiles, include: ['src/**/*.test.ts', 'test/tidy.test.ts'], testTimeout: 30_000 } },
      // Everything that needs a real engine. One file at a time: the engine is shared and timings matter.
      {
        test: {
          name: 'engine',
          setupFiles,
          include: ['test/**/*.test.ts'],
          exclude: ['test/tidy.test.ts', 'test/soak/**'],
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

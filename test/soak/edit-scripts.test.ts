import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';

/**
 * 10,000 random edit scripts, in rounds, for what `test/overlay.test.ts` does with some hundred: overlay, copy and a plain
 * look say the same. Other seeds every time; a round that fails is played again with what its name says.
 */
const rounds = Number(process.env['SOAK_EDIT_ROUNDS'] ?? 10);
const scripts = 1000;
const first = Number(process.env['GLOVEBOX_EDIT_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const root = fileURLToPath(new URL('../..', import.meta.url));

test.each(Array.from({ length: rounds }, (_, at) => first + at))(
  `${scripts} edit scripts of seed %i (GLOVEBOX_EDIT_SEED) give one result in three ways`,
  async (seed) => {
    const argv = ['vitest', 'run', 'test/overlay.test.ts', '-t', 'random edit scripts'];
    const ran = await execa('npx', argv, {
      cwd: root,
      env: { GLOVEBOX_EDIT_SCRIPTS: String(scripts), GLOVEBOX_EDIT_SEED: String(seed), NO_COLOR: '1' },
      reject: false,
      all: true,
    });
    expect(ran.exitCode, ran.all).toBe(0);
    expect(ran.all).toMatch(/1 passed/);
  },
);

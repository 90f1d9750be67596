import type { Command } from 'commander';
import { expect, test } from 'vitest';
import { buildProgram } from './program.ts';

const never = (): Promise<never> => Promise.reject(new Error('a command that is only listed asks for nothing'));

/** Each with its own words, such as `policy why`. */
function leavesOf(command: Command, before: readonly string[] = []): [string, Command][] {
  return command.commands.flatMap((child) => {
    const words = [...before, child.name()];
    return child.commands.length === 0 ? [[words.join(' '), child]] : leavesOf(child, words);
  });
}

/** It loads the files of all commands. */
const timeout = 120_000;

test('every command takes --json, but for the one that writes scripts for shells', { timeout }, async () => {
  const program = await buildProgram(['node', 'glovebox', '--help'], {
    connect: never,
    openDataDir: never,
    reach: never,
  });
  const leaves = leavesOf(program);
  expect(leaves.length).toBeGreaterThan(60);
  const without = leaves.filter(([, { options }]) => !options.some(({ long }) => long === '--json'));
  expect(without.map(([name]) => name)).toEqual(['complete']);
});

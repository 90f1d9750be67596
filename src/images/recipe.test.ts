import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findLock } from './lock.ts';
import { imageNames, loadRecipe, shippedImagesDir } from './recipe.ts';
import { buildArguments } from './registry.ts';

const names = await imageNames();

describe('the shipped images', () => {
  test('are base, node and python', () => {
    expect(names).toEqual(['base', 'node', 'python']);
  });

  test.each(names)('%s: the lock was made from the recipe as it is', async (name) => {
    const lock = await findLock(name, shippedImagesDir);
    expect(lock?.recipe).toBe((await loadRecipe(name)).digest);
  });

  test.each(names)('%s: every package of the recipe is in the lock', async (name) => {
    const lock = await findLock(name, shippedImagesDir);
    const locked = lock?.packages.map((line) => line.split('=')[0]);
    expect(locked).toEqual(expect.arrayContaining([...(await loadRecipe(name)).packages]));
  });

  test.each(names)('%s: the Dockerfile installs the packages of the recipe and no other', async (name) => {
    const [recipe, dockerfile] = [await loadRecipe(name), await dockerfileOf(name)];
    const installed = /--no-install-recommends \\\n([\s\S]*?)\n(?:[A-Z]|$)/
      .exec(dockerfile)?.[1]
      ?.match(/[a-z0-9][a-z0-9.+-]+/g);
    expect(installed).toEqual([...recipe.packages]);
  });

  test.each(names)(
    '%s: the Dockerfile starts from what the build names, and ends with the common last step',
    async (name) => {
      const [recipe, dockerfile] = [await loadRecipe(name), await dockerfileOf(name)];
      expect(dockerfile.match(/^FROM .*/gm)).toEqual(['FROM ${BASE}']);
      expect(dockerfile).toContain(`ARG BASE=${recipe.registryBase}\n`);
      expect(dockerfile.trimEnd().split('\n').at(-1)).toBe(`RUN ["/bin/sh", "/finish.sh", "${recipe.suite}"]`);
      expect(/^ADD files\.tar \/$/m.test(dockerfile)).toBe(recipe.npm.length > 0);
      const commands = dockerfile.replace(/^ {4}curl \\$/m, ''); // a package of the list
      expect(commands).not.toMatch(/https?:|curl|wget|ADD (?!files)/);
    },
  );
});

test('the base is handed to the Dockerfile by digest, never by tag', () => {
  const digest = `sha256:${'a'.repeat(64)}` as const;
  expect(buildArguments({ reference: 'debian:bookworm-slim', digest })).toEqual([
    '--build-arg',
    `BASE=debian@${digest}`,
  ]);
});

test('a recipe that nobody wrote is named as such', async () => {
  await expect(loadRecipe('../supervisor')).rejects.toMatchObject({ code: 'invalid_request' });
});

async function dockerfileOf(name: string): Promise<string> {
  return await readFile(join(shippedImagesDir, name, 'Dockerfile'), 'utf8');
}

import { expect, test } from 'vitest';
import { loadRecipe } from './recipe.ts';
import { resolveBase } from './registry.ts';

const recipe = await loadRecipe('base');
const digest = `sha256:${'a'.repeat(64)}` as const;
const other = `sha256:${'b'.repeat(64)}` as const;

/** Answers as the docker command line does, and notes what it was asked. */
function dockerWith(repoDigests: string) {
  const asked: string[] = [];
  const docker = (args: readonly string[]): Promise<string> => {
    asked.push(args.join(' '));
    return Promise.resolve(args[0] === 'image' ? repoDigests : '');
  };
  return { asked, docker };
}

test('the first time, the tag is asked for its digest', async () => {
  const { asked, docker } = dockerWith(`["debian@${digest}"]`);
  expect(await resolveBase(recipe, undefined, docker, false)).toEqual({ reference: 'debian:bookworm-slim', digest });
  expect(asked[0]).toBe('pull --quiet debian:bookworm-slim');
});

test('from then on the locked digest is pulled, whatever the tag has become', async () => {
  const { asked, docker } = dockerWith(`["debian@${other}"]`);
  const pinned = { reference: 'debian:bookworm-slim', digest };
  expect(await resolveBase(recipe, pinned, docker, false)).toEqual(pinned);
  expect(asked).toEqual([`pull --quiet debian@${digest}`]);
});

test('only an update asks the tag again', async () => {
  const { docker } = dockerWith(`["mirror.test/library/debian@${other}"]`);
  expect((await resolveBase(recipe, { reference: 'debian:bookworm-slim', digest }, docker, true)).digest).toBe(other);
});

test.each(['null', '[]', `["ubuntu@${digest}"]`, '["debian@latest"]'])(
  'a base without a digest of its own (%s) is refused',
  async (answer) => {
    await expect(resolveBase(recipe, undefined, dockerWith(answer).docker, false)).rejects.toMatchObject({
      code: 'engine_failed',
    });
  },
);

test('an engine that reaches no registry says what to do instead', async () => {
  const docker = (): Promise<string> => Promise.reject(new Error('dial tcp: no route to host'));
  await expect(resolveBase(recipe, undefined, docker, false)).rejects.toThrow(/without --from registry/);
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ImageFacts } from '../engine/engine.ts';
import { acceptImage, readAccepted, resolveImage, type AcceptedImages } from './accepted.ts';

const [base, node, other] = [id('1'), id('2'), id('3')];

const accepted: AcceptedImages = { version: 1, images: { base: entry(base), node: entry(node) } };

/** What tags and ids lead to in the engine. */
function engineWith(images: Readonly<Record<string, string>>) {
  return {
    findImage: (reference: string): Promise<ImageFacts | undefined> => {
      const found = images[reference];
      const facts = { tags: [], labels: {}, bytes: 1, createdMs: 0, architecture: 'amd64' };
      return Promise.resolve(found === undefined ? undefined : { ...facts, id: found });
    },
  };
}

const engine = engineWith({
  [base]: base,
  [node]: node,
  [other]: other,
  'glovebox/base:latest': base,
  'glovebox/node:latest': node,
  'glovebox/base:evil': other,
  'team/tools:1': other,
});

test.each([
  ['base', base],
  ['glovebox/base', base],
  ['glovebox/base:latest', base],
  [node, node],
])('%s is accepted by its id', async (reference, expected) => {
  expect(await resolveImage(engine, accepted, reference)).toBe(expected);
});

test.each(['team/tools:1', 'glovebox/base:evil', other, id('9')])(
  '%s is not on the list and is refused',
  async (reference) => {
    await expect(resolveImage(engine, accepted, reference)).rejects.toMatchObject({ code: 'image_not_allowed' });
  },
);

test('a tag that now points at another image is refused, even at an accepted one', async () => {
  const moved = engineWith({ [base]: base, [node]: node, 'glovebox/base:latest': node });
  await expect(resolveImage(moved, accepted, 'glovebox/base:latest')).rejects.toMatchObject({
    code: 'image_not_allowed',
  });
});

test('an id that the policy names is accepted, by tag too', async () => {
  expect(await resolveImage(engine, accepted, 'team/tools:1', [other])).toBe(other);
  expect(await resolveImage(engine, accepted, other, [other])).toBe(other);
});

test('a policy cannot name its way around the list for an image of ours', async () => {
  await expect(resolveImage(engine, accepted, 'glovebox/base:evil', [other])).rejects.toMatchObject({
    code: 'image_not_allowed',
  });
});

test.each(['python', 'constructor', 'glovebox/python:latest', 'absent:1'])(
  '%s is absent: the message says how to get it',
  async (reference) => {
    await expect(resolveImage(engine, accepted, reference)).rejects.toMatchObject({
      code: 'image_not_found',
      message: /run: glovebox image build|load or pull/,
    });
  },
);

test('an accepted image that the engine has lost is not found', async () => {
  await expect(resolveImage(engineWith({}), accepted, 'base')).rejects.toMatchObject({ code: 'image_not_found' });
});

test('the list keeps what it held, and one that cannot be read accepts nothing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'accepted-'));
  try {
    expect((await readAccepted(dir)).images).toEqual({});
    await acceptImage(dir, 'base', entry(base));
    await acceptImage(dir, 'node', entry(node));
    expect(await readAccepted(dir)).toEqual(accepted);
    await writeFile(join(dir, 'images.json'), '{"version":1,"images":{"base":{"id":"latest"}}}');
    await expect(readAccepted(dir)).rejects.toMatchObject({ code: 'image_not_allowed' });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

function id(digit: string): `sha256:${string}` {
  return `sha256:${digit.repeat(64)}`;
}

function entry(image: `sha256:${string}`): AcceptedImages['images'][string] {
  return {
    id: image,
    content: id('a'),
    recipe: id('b'),
    lock: id('c'),
    state: 'locked',
    acceptedAt: '2026-01-01T00:00:00.000Z',
  };
}

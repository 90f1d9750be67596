import { expect, test } from 'vitest';
import { DiskRoom, diskOf, type DiskState } from './disk-room.ts';

const gib = 1024 ** 3;
const large: DiskState = { bytes: 1000 * gib, freeBytes: 500 * gib, files: 1_000_000, freeFiles: 500_000 };

function roomOf(state: DiskState, keepFreeBytes?: number): DiskRoom {
  return new DiskRoom(async () => state, keepFreeBytes);
}

test.each<[string, DiskState, number | undefined, RegExp | undefined]>([
  ['a disk with room', large, undefined, undefined],
  ['less than a GiB of a large disk', { ...large, freeBytes: gib - 1 }, undefined, /1023 MiB of 1024 MiB free/],
  [
    'less than a twentieth of a small one',
    { ...large, bytes: gib, freeBytes: gib / 21 },
    undefined,
    /48 MiB of 51 MiB/,
  ],
  ['no inodes', { ...large, freeFiles: 10 }, undefined, /10 of 20000 inodes free/],
  ['a file system that counts no inodes', { ...large, files: 0, freeFiles: 0 }, undefined, undefined],
  ['less than was asked for', large, 501 * gib, /MiB free/],
  ['nothing, where nothing is to be kept', { ...large, freeBytes: 0, freeFiles: 0 }, 0, undefined],
])('%s is told from one that is full', async (_, state, keepFree, refusal) => {
  const room = roomOf(state, keepFree);
  const asked = room.refuse('no run is opened');
  if (refusal === undefined) await asked;
  else {
    await expect(asked).rejects.toMatchObject({ code: 'insufficient_storage', status: 507, retryAfterMs: 30_000 });
    await expect(asked).rejects.toThrow(refusal);
  }
  expect(room.isLow).toBe(refusal !== undefined);
});

test('what is to come counts', async () => {
  const room = roomOf({ ...large, freeBytes: 2 * gib });
  await room.refuse('an upload', gib - 1);
  await expect(room.refuse('an upload', gib + 1)).rejects.toMatchObject({ code: 'insufficient_storage' });
  expect(room.isLow).toBe(false);
});

test('the disk is looked at once for many who ask, again after a while, and one that cannot be looked at refuses nobody', async () => {
  let [looks, nowMs] = [0, 0];
  const room = new DiskRoom(
    async () => {
      looks += 1;
      if (looks === 2) throw new Error('EIO');
      return large;
    },
    undefined,
    () => nowMs,
  );
  await Promise.all([room.refuse('a'), room.refuse('b')]);
  expect(looks).toBe(1);
  nowMs = 600;
  await room.refuse('c');
  expect([looks, room.seen, room.isLow]).toEqual([2, undefined, false]);
});

test('a real directory has both', async () => {
  const { bytes, freeBytes } = await diskOf('/');
  expect(bytes).toBeGreaterThan(0);
  expect(freeBytes).toBeLessThanOrEqual(bytes);
});

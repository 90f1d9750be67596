import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inScratch } from './scratch.ts';

let memory: string;

beforeEach(() => {
  memory = mkdtempSync(path.join(tmpdir(), 'glovebox-scratch-test-'));
});
afterEach(() => rmSync(memory, { recursive: true, force: true }));

const small = 1000;
const large = 1024 ** 3;
const placeOf = async (directory: string): Promise<string> => path.dirname(directory);

test('what is small lies in memory, what is large on the disk, and both are gone afterwards', async () => {
  expect(await inScratch(small, placeOf, memory)).toBe(memory);
  const directory = await inScratch(large, async (made) => made, memory);
  expect(path.dirname(directory)).toBe(tmpdir());
  expect([existsSync(directory), readdirSync(memory)]).toEqual([false, []]);
});

test('nobody else can look into it, and it goes when the work fails too', async () => {
  const work = inScratch(
    small,
    async (directory) => {
      expect(statSync(directory).mode & 0o777).toBe(0o700);
      writeFileSync(path.join(directory, 'file'), 'x');
      throw new Error('the work failed');
    },
    memory,
  );
  await expect(work).rejects.toThrow('the work failed');
  expect(readdirSync(memory)).toEqual([]);
});

test('where there is no such place, and where it is full, the disk will do', async () => {
  expect(await inScratch(small, placeOf, path.join(memory, 'absent'))).toBe(tmpdir());
  const places: string[] = [];
  const done = await inScratch(
    small,
    async (directory) => {
      places.push(path.dirname(directory));
      if (places.length === 1) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
      return 'done';
    },
    memory,
  );
  expect([done, ...places]).toEqual(['done', memory, tmpdir()]);
  expect(readdirSync(memory)).toEqual([]);
});

test('what a process that died has left there is removed, and nothing else', async () => {
  const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '';
  const { pid } = spawnSync('true');
  const dead = `glovebox-patch-${namespace}-${pid}-abcdef`;
  const others = [
    `glovebox-patch-${namespace}-${process.pid}-abcdef`, // of this very process
    `glovebox-patch-${Number(namespace) + 1}-${pid}-abcdef`, // who is alive there nobody can say
    `glovebox-patch-${namespace}-x-abcdef`,
    'something-else',
  ];
  for (const name of [dead, ...others]) mkdirSync(path.join(memory, name, 'pack'), { recursive: true });
  await inScratch(small, placeOf, memory);
  expect(readdirSync(memory).toSorted()).toEqual(others.toSorted());
});

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { importFailpoints } from '../../failpoint.ts';
import { BlobStore } from '../blobs.ts';
import { Scope } from '../scope/scope.ts';
import { BaseStore } from './bases.ts';
import { compiled } from '../../program.fixture.ts';

const everything = { read: ['**'], write: ['**'], scratch: [], deny: [] };
const scope = Scope.compile(everything);
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Holds the base of a directory for a run, in a process of its own. */
const program = `
  import { BaseStore } from '${here('./bases.ts')}';
  import { BlobStore } from '${here('../blobs.ts')}';
  import { Scope } from '${here('../scope/scope.ts')}';
  const [bases, blobs, host] = process.argv.slice(2);
  const scope = Scope.compile(${JSON.stringify(everything)});
  const store = await BaseStore.open(bases);
  await store.hold('dying', await store.select(host, scope), scope, await BlobStore.open(blobs));`;

describe.runIf(process.getuid?.() === 0)('an import that dies', () => {
  let home: string;
  let host: string;
  let bases: string;
  let contents: string;
  let blobs: BlobStore;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 }); // files count as settled
    home = mkdtempSync(path.join(tmpdir(), 'glovebox-crashes-'));
    host = path.join(home, 'host');
    mkdirSync(host);
    for (let n = 0; n < 20; n++) writeFileSync(path.join(host, `f${n}`), `${n}\n`);
    [bases, contents] = [path.join(home, 'bases'), path.join(home, 'blobs')];
    blobs = await BlobStore.open(contents);
  });
  afterEach(() => {
    vi.useRealTimers();
    rmSync(home, { recursive: true, force: true });
  });

  const hold = async (run: string) => {
    const store = await BaseStore.open(bases);
    return store.hold(run, await store.select(host, scope), scope, blobs);
  };

  test.each(importFailpoints)('at %s leaves whole bases only, and the next import is right', async (name) => {
    const first = await hold('first');
    appendFileSync(path.join(host, 'f3'), 'more\n');
    rmSync(path.join(host, 'f4'));
    const argv = [await compiled(program), bases, contents, host];
    const child = spawn(process.execPath, argv, {
      env: { PATH: process.env['PATH'], GLOVEBOX_FAILPOINT: `${name}:kill` },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (text: Buffer) => (said += text.toString()));
    expect(await once(child, 'close'), said).toEqual([null, 'SIGKILL']);
    expect(said, 'the failpoint was never reached').toContain(`failpoint ${name}: kill`);

    const store = await BaseStore.open(bases);
    for (const { key } of await store.list()) {
      const base = await store.find(key);
      for (const [file, node] of base?.tree ?? [])
        expect(lengthOf(base?.files.directoryOf(file), file)).toBe(node.kind === 'file' ? node.sizeBytes : -1);
    }
    expect(await store.remove(first.base.key), 'the first run has it').toBe(false);
    const second = await hold('second');
    expect(second.base.meta).toMatchObject({ files: 19, delta: { over: first.base.key } });
    expect([...second.base.tree.keys()]).not.toContain('f4');
    expect(lengthOf(second.base.files.directoryOf('f3'), 'f3')).toBe('3\nmore\n'.length);

    const known = new Set((await store.list()).map(({ key }) => key));
    const others = readdirSync(bases).filter((left) => !known.has(left) && left !== 'sources');
    expect(
      others.filter((left) => !left.startsWith('.')),
      'what is swept has such a name',
    ).toEqual([]);
    for (const run of ['first', 'second']) for (const { key } of await store.list()) await store.release(key, run);
    await store.releaseDead(() => Promise.resolve(false));
    await store.collect({ count: 0 });
    expect(await store.list()).toEqual([]);
  });
});

function lengthOf(directory: string | undefined, name: string): number {
  return readFileSync(path.join(directory ?? '', name)).length;
}

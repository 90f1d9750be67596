import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DataDir } from '../data-dir/data-dir.ts';
import { exportFailpoints } from '../failpoint.ts';
import { readBundle } from './check.ts';
import { makeClosedRun } from './closed-run.fixture.ts';
import { describeRun, sealBundle } from './export.ts';
import { publishBundle } from './publish.ts';
import { openSigningKey } from './signing-key.ts';
import { compiled } from '../program.fixture.ts';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Exports a run in a process of its own, as the command line does. */
const program = `
  import { DataDir } from '${here('../data-dir/data-dir.ts')}';
  import { describeRun, sealBundle } from '${here('./export.ts')}';
  import { publishBundle } from '${here('./publish.ts')}';
  import { openSigningKey } from '${here('./signing-key.ts')}';
  const [directory, run, file] = process.argv.slice(2);
  const described = await describeRun(await DataDir.open(directory), run);
  await publishBundle(sealBundle(described, await openSigningKey(directory)), file);`;

let root: string;
let dataDir: DataDir;
let run: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-export-'));
  dataDir = await DataDir.open(join(root, 'data'));
  run = (await makeClosedRun(dataDir)).dir.id;
  await mkdir(join(root, 'out'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function exportIt(file: string): Promise<void> {
  const described = await describeRun(dataDir, run);
  await publishBundle(sealBundle(described, await openSigningKey(dataDir.path)), file);
}

describe('an export that dies', () => {
  test.each(exportFailpoints)(
    'at %s shows a whole bundle under its name or none, and the next one is right',
    async (name) => {
      const file = join(root, 'out', 'run.tar');
      const died = await die(name, file);
      expect(died).toEqual({ signal: 'SIGKILL', said: expect.stringContaining(`failpoint ${name}: kill`) as string });
      const isThere = (await readdir(join(root, 'out'))).includes('run.tar');
      expect(isThere).toBe(name === 'export.published');
      const keyBefore = await readFile(join(dataDir.path, 'signing-key.pem'), 'utf8').catch(() => undefined);
      await exportIt(file);
      const key = await openSigningKey(dataDir.path);
      expect((await readBundle(file, [createPublicKey(key.publicPem)])).manifest.run).toBe(run);
      expect(await readdir(join(root, 'out')), 'what the dead process left is swept').toEqual(['run.tar']);
      const keys = (await readdir(dataDir.path)).filter((entry) => entry.startsWith('signing-key'));
      expect(keys, 'no key that nobody uses stays').toEqual(['signing-key.pem']);
      if (keyBefore !== undefined)
        expect(await readFile(join(dataDir.path, 'signing-key.pem'), 'utf8')).toBe(keyBefore);
    },
  );
});

describe('a bundle is written', () => {
  test('over nothing that is something else, and again without a change', async () => {
    const file = join(root, 'out', 'run.tar');
    await writeFile(file, 'mine');
    await expect(exportIt(file)).rejects.toMatchObject({ code: 'conflict' });
    expect(await readFile(file, 'utf8')).toBe('mine');
    await rm(file);
    await exportIt(file);
    const first = await readFile(file);
    await exportIt(file);
    expect((await readFile(file)).equals(first)).toBe(true);
    await writeFile(file, Buffer.concat([first.subarray(0, -1), Buffer.from('x')]));
    await expect(exportIt(file)).rejects.toMatchObject({ code: 'conflict' });
    expect(await readdir(join(root, 'out'))).toEqual(['run.tar']);
  });

  test('not where there is no directory, and the message says where', async () => {
    const file = join(root, 'nowhere', 'run.tar');
    await expect(exportIt(file)).rejects.toThrow(/nowhere/);
  });
});

async function die(failpoint: string, file: string): Promise<{ signal: unknown; said: string }> {
  const argv = [await compiled(program), dataDir.path, run, file];
  const env = { PATH: process.env['PATH'], GLOVEBOX_FAILPOINT: `${failpoint}:kill` };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, argv, { env }, (_error, _out, said) =>
      resolve({ signal: child.signalCode, said }),
    );
  });
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { newId } from '../ids.ts';
import { DataDir } from './data-dir.ts';
import { isProcessAlive, thisProcess } from '../process-identity.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-data-'));
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

describe('the data directory', () => {
  test('is made for its owner alone', async () => {
    const dir = await DataDir.open(join(root, 'a/b'));
    for (const path of [dir.path, join(dir.path, 'runs'), join(dir.path, 'instances'), dir.blobsDir]) {
      expect((await stat(path)).mode & 0o777, path).toBe(0o700);
    }
    expect((await stat(join(dir.path, 'owner'))).mode & 0o777).toBe(0o600);
  });

  test('is found through GLOVEBOX_DATA, then XDG_DATA_HOME, then the home directory', async () => {
    const places = [
      [{ GLOVEBOX_DATA: join(root, 'g'), XDG_DATA_HOME: join(root, 'x'), HOME: root }, join(root, 'g')],
      [{ GLOVEBOX_DATA: '', XDG_DATA_HOME: join(root, 'x'), HOME: root }, join(root, 'x/glovebox')],
      [{ XDG_DATA_HOME: 'relative', HOME: root }, join(root, '.local/share/glovebox')],
    ] as const;
    for (const [env, path] of places) expect((await DataDir.open(undefined, env)).path).toBe(path);
  });

  test('keeps one owner id, also when ten open it at once', async () => {
    const dirs = await Promise.all(Array.from({ length: 10 }, () => DataDir.open(join(root, 'd'))));
    expect(new Set(dirs.map((dir) => dir.owner)).size).toBe(1);
    expect(await readdir(join(root, 'd'))).toEqual(['blobs', 'instances', 'owner', 'runs']);
    expect((await DataDir.open(join(root, 'd'))).owner).toBe(dirs[0]?.owner);
  });

  test('is refused when others may write to it, and closed to readers', async () => {
    await mkdir(join(root, 'open'));
    for (const mode of [0o777, 0o1777, 0o770]) {
      await chmod(join(root, 'open'), mode);
      await expect(DataDir.open(join(root, 'open'))).rejects.toMatchObject({ code: 'data_dir_unusable' });
    }
    await chmod(join(root, 'open'), 0o755);
    await DataDir.open(join(root, 'open'));
    expect((await stat(join(root, 'open'))).mode & 0o777).toBe(0o700);
  });

  test('is refused when it belongs to someone else', async () => {
    const theirs = process.geteuid?.() === 0 ? join(root, 'theirs') : '/usr';
    if (process.geteuid?.() === 0) {
      await mkdir(theirs);
      await chown(theirs, 12_345, 12_345);
    }
    await expect(DataDir.open(theirs)).rejects.toThrow(/belongs to user/);
  });

  test('is refused when its owner file is spoilt, never given a new id in silence', async () => {
    await DataDir.open(join(root, 'd'));
    await writeFile(join(root, 'd/owner'), 'x');
    await expect(DataDir.open(join(root, 'd'))).rejects.toMatchObject({ code: 'data_dir_unusable' });
    expect(await readFile(join(root, 'd/owner'), 'utf8')).toBe('x');
  });
});

describe('runs', () => {
  test('are listed newest first and found by id or by a prefix only they have', async () => {
    const dir = await DataDir.open(root);
    const [a, b, c] = [
      '01aaaaaaaaaaaaaaaaaaaaaaaa',
      '01abbbbbbbbbbbbbbbbbbbbbbb',
      '02cccccccccccccccccccccccc',
    ] as const;
    for (const id of [b, a, c]) await dir.createRun(id);
    expect((await dir.listRuns()).map((run) => run.id)).toEqual([c, b, a]);
    expect((await dir.findRun(a)).id).toBe(a);
    expect((await dir.findRun('02')).id).toBe(c);
    expect((await dir.findRun('01AB')).id).toBe(b);
  });

  test('that are not there are answered with the close ones', async () => {
    const dir = await DataDir.open(root);
    await expect(dir.findRun('x')).rejects.toThrow(/no runs here yet/);
    const ids = ['01aaaaaaaaaaaaaaaaaaaaaaaa', '01abbbbbbbbbbbbbbbbbbbbbbb', '02cccccccccccccccccccccccc'];
    for (const id of ids) await dir.createRun(id);
    await expect(dir.findRun('01a')).rejects.toThrow(/fits 2 runs.*01abbb.*01aaaa/);
    await expect(dir.findRun('02d')).rejects.toThrow(/closest are 02cccc/);
    await expect(dir.findRun('')).rejects.toMatchObject({ code: 'run_not_found' });
    await expect(dir.findRun('../../etc')).rejects.toMatchObject({ code: 'run_not_found' });
  });

  test('never name a path outside their directory', async () => {
    const dir = await DataDir.open(root);
    const run = await dir.createRun(newId());
    expect(run.callFile('call-1', 'out')).toBe(join(run.path, 'calls/call-1.out'));
    for (const id of ['..', '.x', 'a/b', '', 'a\0', 'x'.repeat(65)]) {
      expect(() => run.callFile(id, 'out'), id).toThrow(/call id/);
    }
    for (const id of ['..', 'a/b', '', 'x']) expect(() => dir.runDir(id), id).toThrow(/not the id/);
  });

  test('that are removed are out of their place at once, and what is left of that is swept', async () => {
    const dir = await DataDir.open(root);
    const run = await dir.createRun(newId());
    await mkdir(dir.graveFor('old'));
    await dir.removeRun(run.id);
    await dir.removeRun(run.id);
    expect(await readdir(join(root, 'runs'))).toEqual(['.removing-old']);
    await dir.sweepGraves();
    expect(await readdir(join(root, 'runs'))).toEqual([]);
  });
});

describe('sandboxes', () => {
  test('are known by their run until they are released, and given to one run only', async () => {
    const dir = await DataDir.open(root);
    const [sandbox, run] = [newId(), newId()];
    expect(await dir.sandboxes.runOf(sandbox)).toBeUndefined();
    await dir.sandboxes.assign(sandbox, run);
    await dir.sandboxes.assign(sandbox, run);
    await expect(dir.sandboxes.assign(sandbox, newId())).rejects.toThrow(/EEXIST/);
    expect(await dir.sandboxes.runOf(sandbox)).toBe(run);
    expect(await dir.sandboxes.list()).toEqual([{ sandbox, run }]);
    expect(await dir.sandboxes.runOf('../runs')).toBeUndefined();
    await dir.sandboxes.release(sandbox);
    await dir.sandboxes.release(sandbox);
    expect(await dir.sandboxes.list()).toEqual([]);
  });

  test('that wait for a run have a place by the runner that made them; what is mounted there stays', async () => {
    const dir = await DataDir.open(root);
    const [instance, sandbox] = [newId(), newId()];
    const { path } = await dir.warm.create(instance, sandbox);
    await mkdir(join(path, 'layer'));
    await mkdir(join(path, 'calls'));
    const [warm] = await dir.warm.list();
    expect(warm).toMatchObject({ instance, dir: { id: sandbox, path, layer: join(path, 'layer') } });
    if (warm !== undefined) await dir.warm.remove(warm);
    expect(await readdir(path)).toEqual(['layer']);
    await rm(join(path, 'layer'), { recursive: true });
    if (warm !== undefined) await dir.warm.remove(warm);
    expect(await readdir(join(root, 'pool'))).toEqual([]);
  });
});

describe('instances', () => {
  test('of this process are alive until they are forgotten', async () => {
    const dir = await DataDir.open(root);
    const instance = await dir.registerInstance();
    expect(await dir.listInstances()).toEqual([instance]);
    expect(await dir.isAlive(instance.id)).toBe(true);
    await dir.forgetInstance(instance.id);
    await dir.forgetInstance(instance.id);
    expect(await dir.isAlive(instance.id)).toBe(false);
  });

  test('are dead when their pid was given to another process, and after a reboot', async () => {
    const dir = await DataDir.open(root);
    const instance = await dir.registerInstance();
    expect(await dir.isAlive({ ...instance, startTicks: String(Number(instance.startTicks) - 1) })).toBe(false);
    expect(await dir.isAlive({ ...instance, bootId: 'another-boot' })).toBe(false);
    expect(await dir.isAlive({ ...instance, pid: 4_194_304 })).toBe(false);
  });

  test('that cannot be seen from here count as alive', () => {
    expect(isProcessAlive({ ...thisProcess(), pid: 4_194_304, pidNamespace: '1' })).toBe(true);
  });

  test('of a process that was killed are dead', async () => {
    const child = spawn('/bin/sleep', ['60']);
    await once(child, 'spawn');
    const text = await readFile(`/proc/${child.pid}/stat`, 'latin1');
    const startTicks = text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    const identity = { ...thisProcess(), pid: child.pid ?? 0, startTicks };
    expect(isProcessAlive(identity)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isProcessAlive(identity)).toBe(false);
  });

  test('whose record is spoilt are not taken for dead', async () => {
    const dir = await DataDir.open(root);
    const id = newId();
    await writeFile(join(root, `instances/${id}.json`), '{}');
    await expect(dir.listInstances()).rejects.toMatchObject({ code: 'data_dir_unusable' });
    await expect(dir.isAlive(id)).rejects.toMatchObject({ code: 'data_dir_unusable' });
  });
});

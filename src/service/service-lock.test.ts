import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { thisProcess } from '../process-identity.ts';
import { ServiceLock } from './service-lock.ts';
import { compiled } from '../program.fixture.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'glovebox-lock-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const program = `
  import { ServiceLock } from '${fileURLToPath(new URL('service-lock.ts', import.meta.url))}';
  await ServiceLock.acquire(process.argv[2]).then(
    () => console.log('held'),
    (error) => { console.log(error.code + ': ' + error.message); process.exit(); });
  setInterval(() => undefined, 1000);`;

async function other() {
  return spawn(process.execPath, [await compiled(program), dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

async function firstLine(child: Awaited<ReturnType<typeof other>>): Promise<string> {
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  return chunk.toString().trim();
}

test('a second service on a data directory is refused, and told whose it is', async () => {
  const lock = await ServiceLock.acquire(dir);
  const said = new RegExp(`is served by process ${process.pid}, since 20\\d\\d-`);
  await expect(ServiceLock.acquire(dir)).rejects.toMatchObject({ code: 'data_dir_in_use', message: said });
  // ... and that look has not cost the first one its lock
  expect(await firstLine(await other())).toMatch(said);
  expect((await ServiceLock.holder(dir))?.pid).toBe(process.pid);
  await lock.release();
  const next = await ServiceLock.acquire(dir);
  await lock.release(); // twice is fine, and takes nothing from the next
  expect((await ServiceLock.holder(dir))?.pid).toBe(process.pid);
  await next.release();
  expect(await ServiceLock.holder(dir)).toBeUndefined();
});

test('of many that come at once one gets it; when that is killed, one of many gets it again', async () => {
  for (let round = 0; round < 2; round++) {
    const children = await Promise.all(Array.from({ length: 3 }, other));
    const said = await Promise.all(children.map(firstLine));
    expect(said.filter((line) => line === 'held')).toHaveLength(1);
    expect(said.filter((line) => line.startsWith('data_dir_in_use'))).toHaveLength(2);
    const winner = children[said.indexOf('held')];
    const pid = JSON.parse(await readFile(join(dir, 'service.json'), 'utf8')) as { pid: number };
    expect(pid.pid).toBe(winner?.pid);
    for (const child of children) child.kill('SIGKILL');
    for (const child of children) if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    expect(await ServiceLock.holder(dir)).toBeUndefined();
  }
});

test('what is left of a service before a reboot, or of another process with its pid, stops nobody', async () => {
  const since = new Date().toISOString();
  for (const patch of [{ bootId: 'another-boot' }, { startTicks: '1' }, { pid: 4_194_304 }]) {
    await writeFile(join(dir, 'service.json'), JSON.stringify({ ...thisProcess(), since, ...patch }));
    expect(await ServiceLock.holder(dir)).toBeUndefined();
    await (await ServiceLock.acquire(dir)).release();
  }
  await writeFile(join(dir, 'service.json'), 'half a line');
  const lock = await ServiceLock.acquire(dir);
  expect((await stat(join(dir, 'service.json'))).mode & 0o777).toBe(0o600);
  await lock.release();
});

test('a directory that cannot be locked is no answer', async () => {
  await expect(ServiceLock.acquire(join(dir, 'nowhere'))).rejects.toMatchObject({ code: 'data_dir_unusable' });
});

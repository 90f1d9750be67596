import { readdirSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { findOutput } from '../src/sandbox/find-output.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import { Boxes } from './fixtures/box.ts';
import { compiled } from '../src/program.fixture.ts';

describe('a runner that is killed in the middle of output', () => {
  let boxes: Boxes;
  const orphans: string[] = [];
  beforeAll(async () => {
    boxes = await Boxes.make();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  afterAll(async () => {
    for (const containerId of orphans) await boxes.engine.destroy(containerId);
    await boxes.close();
  });
  const lines = 400_000;
  const scripts = [`seq 1 ${lines}`, 'echo small; sleep 2; echo later', 'cat /dev/zero | head -c 3000000; exit 7'];
  const whole = Array.from({ length: lines }, (_, n) => `${n + 1}\n`).join('');

  async function dieAfter(bytes: number): Promise<{ containerId: string; directory: string }> {
    const directory = await mkdtemp(join(boxes.directory, 'killed-'));
    const program = await compiled(new URL('fixtures/dying-runner.ts', import.meta.url));
    const runner = execa(process.execPath, [program, directory, boxes.image, ...scripts], {
      reject: false,
    });
    const containerId = await new Promise<string>((resolve, reject) => {
      runner.stdout.once('data', (text: Buffer) => resolve(text.toString().trim()));
      void runner.then(({ stderr }) => reject(new Error(`the runner ended by itself: ${stderr}`)));
    });
    orphans.push(containerId);
    const written = (): number =>
      readdirSync(directory)
        .filter((name) => name.endsWith('.out'))
        .reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
    for (let tries = 0; written() < bytes && tries < 2_000; tries++) await sleep(2);
    runner.kill('SIGKILL');
    await runner;
    return { containerId, directory };
  }

  test.each([0, 300_000, 1_500_000])(
    'after %d bytes: the next runner has every byte once, and how each call ended',
    async (bytes) => {
      const { containerId, directory } = await dieAfter(bytes);
      const { sandbox, calls } = await Sandbox.adopt(boxes.engine, containerId, { directory });
      for (const found of calls) await found.gone;
      const output = async (id: string): Promise<Buffer> => {
        const log = await findOutput(directory, id);
        return log === undefined ? Buffer.from('none') : (await log.read(0, 2 ** 24)).bytes;
      };
      expect((await output('call-0')).toString() === whole).toBe(true);
      expect((await output('call-1')).toString()).toBe('small\nlater\n');
      expect((await output('call-2')).equals(Buffer.alloc(3_000_000))).toBe(true);
      const ends = Object.fromEntries(calls.map((found) => [found.id, found.result?.outcome]));
      expect(ends['call-1']).toEqual({ kind: 'exited', code: 0 });
      if ('call-2' in ends) expect(ends['call-2']).toEqual({ kind: 'exited', code: 7 });
      await sandbox.close();
      expect(await boxes.engine.inspect(containerId)).toBeUndefined();
    },
  );

  test('and whose host clock jumps a year ahead before the next one comes: no call is taken to be late', async () => {
    const { containerId, directory } = await dieAfter(0);
    vi.useFakeTimers({ toFake: ['Date'] });
    vi.setSystemTime(Date.now() + 365 * 86_400_000);
    const { sandbox, calls } = await Sandbox.adopt(boxes.engine, containerId, { directory });
    for (const found of calls) expect((await found.ended).outcome.kind).toBe('exited');
    expect((await calls.find((found) => found.id === 'call-1')?.output.read(0, 100))?.bytes.toString()).toBe(
      'small\nlater\n',
    );
    await sandbox.close();
  });

  test('and whose container somebody restarts: it is not taken for the same', async () => {
    const { containerId, directory } = await dieAfter(0);
    await execa('docker', ['restart', '-t', '0', containerId]);
    await expect(Sandbox.adopt(boxes.engine, containerId, { directory })).rejects.toMatchObject({
      code: 'sandbox_lost',
    });
    await boxes.engine.destroy(containerId);
  });
});

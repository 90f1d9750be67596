import { expect, test } from 'vitest';
import type { PipesOfPid1 } from '../engine/engine.ts';
import { FakePid1, streams } from './fake-pid1.fixture.ts';
import { open } from './join.ts';
import { toSupervisor } from './wire.ts';

const options = { orphanMs: 1000, timeoutMs: 1000, pingEveryMs: 1_000_000 };

test('the stream goes on in the pipes that PID 1 offers; the attached one is closed with them', async () => {
  const direct = new FakePid1();
  const opened: PipesOfPid1[] = [];
  const { attached, stream } = streams((pipes) => {
    opened.push(pipes);
    return direct.duplex;
  });
  const { link } = await open(stream, options);
  expect(opened).toEqual([{ in: { fd: 20, inode: 7 }, out: { fd: 21, inode: 8 } }]);
  expect([attached.asked, direct.asked]).toEqual([[1], [0]]);
  link.shutdown();
  expect([attached.heard.includes(toSupervisor.shutdown), direct.heard.includes(toSupervisor.shutdown)]).toEqual([
    false,
    true,
  ]);
  attached.emit('data', Buffer.from('what comes late is dropped'));
  attached.emit('end');
  expect(link.end).toBeUndefined();
  direct.emit('end');
  expect(await link.lost).toMatchObject({ code: 'sandbox_lost', message: expect.stringContaining('last words') });
  expect(link.final).toBe(true);
  expect(attached.destroyed).toBe(true);
});

test('pipes that cannot be opened change nothing: the stream stays where it is', async () => {
  const { attached, stream } = streams(() => undefined);
  const { link } = await open(stream, options);
  link.shutdown();
  expect(attached.heard).toEqual([toSupervisor.hello, toSupervisor.shutdown]);
  attached.emit('end');
  expect((await link.lost).code).toBe('sandbox_lost');
  expect(link.final).toBe(false);
});

test('nobody asks for pipes where none could be opened', async () => {
  const { attached, stream } = streams();
  await open(stream, options);
  expect(attached.asked).toEqual([0]);
});

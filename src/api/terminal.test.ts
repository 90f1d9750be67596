import { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import { expect, test } from 'vitest';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import { Terminal } from './terminal.ts';

/** A socket of a peer that types. */
class Typist extends EventEmitter {
  isPaused = false;
  bufferedAmount = 0;
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
}

test('what is typed and not read is bounded by its bytes, and by its number', async () => {
  let read = (): void => undefined;
  const reading = new Promise<void>((resolve) => {
    read = resolve;
  });
  const command = { write: () => reading, closeStdin: () => reading };
  const output = { read: () => new Promise(() => undefined), exitCode: null };
  const service = {
    find: () => ({ run: { findCommand: () => command } }),
    calls: { output: async () => output, make: async () => ({ error: null }) },
  } as unknown as Service;
  const attach = async (): Promise<Typist> => {
    const terminal = await Terminal.attach(service, {} as Principal, { run: 'r', callId: 'c', offset: 0 });
    const typist = new Typist();
    terminal.carry(typist as unknown as WebSocket, () => undefined);
    return typist;
  };
  const [large, many] = [await attach(), await attach()];
  for (let sent = 0; sent < 3; sent++) large.emit('message', Buffer.alloc(1_048_576), true);
  for (let sent = 0; sent < 4_000; sent++) many.emit('message', Buffer.from('{"close":true}'), false);
  expect([large.isPaused, many.isPaused]).toEqual([true, true]);
  read();
  await new Promise((resolve) => setImmediate(resolve));
  expect([large.isPaused, many.isPaused]).toEqual([false, false]);
});

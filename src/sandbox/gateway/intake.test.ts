import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { accept, GatewayPeer, peerBytes, record, somebody } from './gateway.fixture.ts';
import type { Gateway } from './gateway.ts';

interface Opened {
  readonly peer: GatewayPeer;
  readonly gateway: Gateway;
  readonly listener: number;
  readonly udp: number;
  readonly heard: { connections: number; datagrams: number; bytes: number };
}

async function opened(): Promise<Opened> {
  const heard = { connections: 0, datagrams: 0, bytes: 0 };
  const { peer, gateway } = await GatewayPeer.open({
    connection: (inner) => {
      heard.connections += 1;
      inner.on('data', (bytes: Buffer) => (heard.bytes += bytes.length));
    },
    datagram: () => (heard.datagrams += 1),
  });
  const listener = await peer.listening(gateway);
  return { peer, gateway, listener, udp: await peer.listening(gateway, 'udp', 53), heard };
}

/** Connections that come and go at once. */
function passing(count: number, listener: number): Buffer {
  const numbers = Array.from({ length: count }, (_, n) => 2 * n + 1);
  return Buffer.concat(
    numbers.flatMap((number) => [accept(number, listener), record('R', number), record('G', number)]),
  );
}

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await turn();
}

test('connections that come at once are taken a few in each turn, so that others come in between', async () => {
  const { peer, listener, heard } = await opened();
  peer.say(passing(40, listener));
  const seen = [heard.connections];
  while (heard.connections < 40) {
    await turn();
    seen.push(heard.connections);
  }
  expect(seen.every((count, n) => count - (seen[n - 1] ?? 0) <= 4)).toBe(true);
});

test('beyond a burst of connections so many a second are taken', async () => {
  const { peer, listener, heard } = await opened();
  const startMs = performance.now();
  peer.say(passing(600, listener));
  await turns(100);
  expect(heard.connections).toBeGreaterThanOrEqual(256);
  expect(heard.connections).toBeLessThan(264 + (performance.now() - startMs) / 4);
  await expect.poll(() => heard.connections, { timeout: 5_000 }).toBe(600);
  expect(performance.now() - startMs).toBeGreaterThan(1_300);
});

test('the same of datagrams, and what waits is not acknowledged: the gateway stops reading its sockets', async () => {
  const { peer, udp, heard } = await opened();
  const startMs = performance.now();
  const many = Array.from({ length: 3_000 }, () => record('U', udp, peerBytes(somebody), Buffer.alloc(60)));
  peer.say(Buffer.concat(many));
  expect(peer.ackedBytes).toBe(0);
  await turns(100);
  expect(heard.datagrams).toBeGreaterThanOrEqual(1_000);
  expect(heard.datagrams).toBeLessThan(1_100 + (performance.now() - startMs) * 4);
  await expect.poll(() => heard.datagrams, { timeout: 5_000 }).toBe(3_000);
  expect(performance.now() - startMs).toBeGreaterThan(450);
  expect(peer.ackedBytes).toBeGreaterThan(3_000 * 60);
});

test('what is sent over a connection waits for nothing, however small its pieces are', async () => {
  const { peer, listener, heard } = await opened();
  peer.say(accept(1, listener));
  peer.say(Buffer.concat(Array.from({ length: 5_000 }, () => record('D', 1, Buffer.from('x')))));
  await turn();
  expect(heard.bytes).toBe(5_000);
});

test('what is wrong ends the sandbox, though it was not read at once', async () => {
  const { peer, gateway, listener } = await opened();
  peer.say(Buffer.concat([passing(40, listener), Buffer.from('?')]));
  expect(peer.destroyed).toBe(false);
  await turns(40);
  expect([peer.destroyed, gateway.open]).toEqual([true, false]);
});

test('what waits when it is closed is told to nobody', async () => {
  const { peer, gateway, listener, heard } = await opened();
  peer.say(passing(40, listener));
  const before = heard.connections;
  const closing = gateway.close();
  await turns(40);
  expect(heard.connections).toBe(before);
  peer.exited();
  await closing;
});

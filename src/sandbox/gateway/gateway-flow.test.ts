import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { accept, connected, GatewayPeer, record, somebody, u32 } from './gateway.fixture.ts';
import { creditBytes } from './gateway-records.ts';
import type { InnerConnection } from './gateway.ts';
import { windowBytes } from '../wire.ts';

describe('credit', () => {
  test('bounds what is under way to a connection, and what is granted is sent at once', async () => {
    const { peer, inner } = await connected();
    const bytes = randomBytes(3 * creditBytes);
    inner.end(bytes);
    await turn();
    expect(peer.dataOf(1).length).toBe(creditBytes);
    peer.say(record('W', 1, u32(10)));
    expect(peer.dataOf(1).length).toBe(creditBytes + 10);
    for (let sent = 10; sent < 2 * creditBytes; sent += 65_536) {
      expect(peer.kinds()).not.toContain('F');
      peer.say(record('W', 1, u32(Math.min(65_536, 2 * creditBytes - sent))));
    }
    await turn();
    expect(peer.dataOf(1).equals(bytes)).toBe(true);
    expect(peer.kinds()).toMatch(/^LD+F$/);
  });

  test('is given for what was read, and not for what only arrived', async () => {
    const { peer, inner } = await connected();
    const bytes = randomBytes(creditBytes);
    for (let at = 0; at < bytes.length; at += 32_768) peer.say(record('D', 1, bytes.subarray(at, at + 32_768)));
    await turn();
    expect(peer.kinds()).toBe('L');
    expect((inner.read(1000) as Buffer).equals(bytes.subarray(0, 1000))).toBe(true);
    expect(peer.kinds()).toBe('L');
    expect((inner.read() as Buffer).equals(bytes.subarray(1000))).toBe(true);
    expect(peer.kinds()).toBe('LW');
    expect(peer.last('W').rest.readUInt32LE()).toBe(creditBytes);
  });

  test('flows while bytes do, without a word for each of them', async () => {
    const { peer, inner } = await connected();
    let read = 0;
    inner.on('data', (part: Buffer) => (read += part.length));
    await turn();
    for (let n = 0; n < 4000; n++) peer.say(record('D', 1, Buffer.alloc(1000)));
    await turn();
    expect(read).toBe(4_000_000);
    const grants = peer.sent.filter(({ kind }) => kind === 'W');
    expect(grants.length).toBeLessThanOrEqual(4_000_000 / 65_536);
    expect(peer.ackedBytes).toBeGreaterThan(4_000_000 - 65_536);
  });

  test('of one connection is not that of another: a slow one holds up nobody', async () => {
    const come: InnerConnection[] = [];
    const { peer, gateway } = await GatewayPeer.open({ connection: (inner) => come.push(inner) });
    const listener = await peer.listening(gateway);
    peer.say(Buffer.concat([accept(1, listener), accept(3, listener)]));
    const [slow, quick] = come;
    slow?.write(Buffer.alloc(2 * creditBytes));
    quick?.write('quick');
    await turn();
    expect(peer.dataOf(3).toString()).toBe('quick');
    for (let n = 0; n < 4; n++) peer.say(record('D', 1, Buffer.alloc(65_532)));
    const said = quick === undefined ? undefined : once(quick, 'data');
    peer.say(record('D', 3, Buffer.from('still')));
    expect(String((await said)?.[0])).toBe('still');
  });
});

describe('the way to a gateway', () => {
  test('never holds more than the window of what is not read, and takes turns', async () => {
    const come: InnerConnection[] = [];
    const { peer, gateway } = await GatewayPeer.open({ connection: (inner) => come.push(inner) });
    const listener = await peer.listening(gateway);
    peer.say(Buffer.concat([accept(1, listener), accept(3, listener)]));
    peer.reads = false;
    const before = peer.inputBytes;
    for (const inner of come) inner.write(randomBytes(creditBytes));
    await turn();
    expect(peer.inputBytes - before).toBeLessThanOrEqual(windowBytes);
    const order = peer.sent.filter(({ kind }) => kind === 'D').map(({ number }) => number);
    expect(order.slice(0, 4)).toEqual([1, 1, 1, 1]); // Alone until the other one has something.
    peer.readAll();
    await turn();
    const later = peer.sent.filter(({ kind }) => kind === 'D').map(({ number }) => number);
    expect(new Set(later)).toEqual(new Set([1, 3]));
  });

  test('has room for short records when data fills it', async () => {
    const { peer, inner, gateway } = await connected();
    peer.reads = false;
    inner.write(randomBytes(creditBytes));
    await turn();
    gateway.unlisten(1);
    expect(peer.kinds()).toMatch(/^LD+l$/);
    peer.readAll();
    await turn();
    expect(peer.dataOf(1).length).toBe(creditBytes);
  });

  test('waits for the stream to drain', async () => {
    const { peer, inner } = await connected();
    peer.writableNeedDrain = true;
    inner.write('waits');
    expect(peer.kinds()).toBe('L');
    peer.writableNeedDrain = false;
    peer.emit('drain');
    await turn();
    expect(peer.dataOf(1).toString()).toBe('waits');
  });

  test('drops datagrams, and nothing else, when it is full', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    const udp = await peer.listening(gateway, 'udp');
    peer.writableNeedDrain = true;
    for (let n = 0; n < 1000; n++) gateway.answer(udp, somebody, Buffer.from('answer'));
    void gateway.connect('127.0.0.1', 80).catch(() => undefined);
    peer.writableNeedDrain = false;
    peer.emit('drain');
    await turn();
    expect(peer.kinds()).toBe(`L${'U'.repeat(256)}C`);
  });
});

import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { RunnerError } from '../../errors.ts';
import { accept, connected, GatewayPeer, peerBytes, readWhole, record, somebody, u32 } from './gateway.fixture.ts';
import { Gateway, type InnerConnection } from './gateway.ts';
import { toSupervisor } from '../wire.ts';

const fails = (code: string): unknown => expect.objectContaining({ code });

describe('a listener inside', () => {
  test('is asked for with kind, address and port, and has a number', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    expect(await peer.listening(gateway, 'udp', 53)).toBe(1);
    expect(peer.last('L').rest).toEqual(Buffer.from([2, 127, 0, 0, 1, 53, 0]));
    expect(await peer.listening(gateway, 'tcp', 8080)).toBe(2);
  });

  test('that cannot be had is refused with what the kernel said', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    const listening = gateway.listen('tcp', '127.0.0.1', 80);
    peer.say(record('L', 1, u32(98)));
    await expect(listening).rejects.toMatchObject({ name: 'SocketError', code: 'EADDRINUSE', errno: 98 });
    expect(await peer.listening(gateway)).toBe(2);
  });

  test.each([
    ['10.0.0.1', 80],
    ['::1', 80],
    ['127.0.0.1', 0],
    ['127.0.0.1', 65_536],
    ['localhost', 80],
  ])('is not asked for on %s:%i', async (address, port) => {
    const { peer, gateway } = await GatewayPeer.open();
    await expect(gateway.listen('tcp', address, port)).rejects.toEqual(fails('invalid_request'));
    expect(peer.sent).toEqual([]);
  });

  test('is one of 64', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    for (let n = 0; n < 64; n++) await peer.listening(gateway, 'tcp', 1000 + n);
    await expect(gateway.listen('tcp', '127.0.0.1', 80)).rejects.toEqual(fails('limit_exceeded'));
    gateway.unlisten(5);
    expect(peer.last('l').number).toBe(5);
    expect(await peer.listening(gateway)).toBe(65);
  });

  test('that was closed gets nothing that was under way: connections are reset, datagrams dropped', async () => {
    const told: unknown[] = [];
    const tell = (...of: unknown[]): unknown => told.push(of);
    const { peer, gateway } = await GatewayPeer.open({ connection: tell, datagram: tell });
    const tcp = await peer.listening(gateway);
    const udp = await peer.listening(gateway, 'udp');
    gateway.unlisten(tcp);
    gateway.unlisten(udp);
    peer.say(Buffer.concat([accept(1, tcp), record('U', udp, peerBytes(somebody), Buffer.from('?'))]));
    expect(told).toEqual([]);
    expect(peer.last('R').number).toBe(1);
    peer.say(record('G', 1));
  });
});

describe('a connection from inside', () => {
  test('carries bytes both ways, and says whose it is', async () => {
    const { peer, inner, listener } = await connected();
    expect([inner.peer, inner.listener]).toEqual([somebody, listener]);
    inner.write('hello');
    expect(peer.dataOf(1).toString()).toBe('hello');
    const said = once(inner, 'data');
    peer.say(record('D', 1, Buffer.from('there')));
    expect(String((await said)[0])).toBe('there');
  });

  test('is half-open: each side ends by itself, whichever is first', async () => {
    const { peer, inner } = await connected();
    const all = readWhole(inner);
    peer.say(Buffer.concat([record('D', 1, Buffer.from('question')), record('F', 1)]));
    expect((await all).toString()).toBe('question');
    expect(inner.destroyed).toBe(false);
    inner.end('answer');
    await once(inner, 'close');
    expect(peer.kinds()).toBe('LDF');
    peer.say(record('G', 1));

    const other = await connected();
    other.inner.end();
    await turn();
    expect(other.peer.kinds()).toBe('LF');
    const rest = readWhole(other.inner);
    other.peer.say(Buffer.concat([record('D', 1, Buffer.from('late')), record('F', 1), record('G', 1)]));
    expect((await rest).toString()).toBe('late');
  });

  test('that is reset inside is destroyed with ECONNRESET, and what it still had to send is gone', async () => {
    const { peer, inner } = await connected();
    const failed = once(inner, 'error');
    peer.say(Buffer.concat([record('R', 1), record('G', 1)]));
    expect((await failed)[0]).toMatchObject({ name: 'SocketError', code: 'ECONNRESET' });
    inner.write('nobody');
    await turn();
    expect(peer.kinds()).toBe('L');
  });

  test.each<[string, (inner: InnerConnection) => void, string]>([
    ['destroy with an error is a reset', (inner) => inner.destroy(new Error('cut')), 'LR'],
    ['destroy without an end is a reset', (inner) => inner.destroy(), 'LR'],
    ['reset is a reset', (inner) => inner.reset(), 'LR'],
    ['reset after the end is a reset', (inner) => void inner.end(() => inner.reset()), 'LFR'],
    ['destroy after the end lets what was sent arrive', (inner) => void inner.end(() => inner.destroy()), 'LF'],
  ])('%s', async (_what, act, kinds) => {
    const { peer, inner } = await connected();
    const closed = new Promise((resolve) => inner.once('close', resolve));
    act(inner);
    await closed;
    expect(peer.kinds()).toBe(kinds);
  });

  test('that was dropped after its end is reset by the next byte, as TCP does', async () => {
    const { peer, inner } = await connected();
    inner.end();
    inner.destroy();
    await once(inner, 'close');
    peer.say(record('D', 1, Buffer.from('unwanted')));
    expect(peer.kinds()).toBe('LFR');
    peer.say(Buffer.concat([record('D', 1, Buffer.from('crossing')), record('F', 1), record('G', 1)]));
  });

  test('whose owner throws ends alone', async () => {
    const come: InnerConnection[] = [];
    const { peer, gateway, link } = await GatewayPeer.open({
      connection: (inner) => {
        come.push(inner);
        if (come.length === 1) throw new Error('no');
        inner.on('data', () => {
          throw new Error('no');
        });
      },
      datagram: () => {
        throw new Error('no');
      },
    });
    const tcp = await peer.listening(gateway);
    const udp = await peer.listening(gateway, 'udp');
    peer.say(Buffer.concat([accept(1, tcp), accept(3, tcp), record('U', udp, peerBytes(somebody))]));
    expect(come.map((inner) => inner.destroyed)).toEqual([true, false]);
    await turn(); // It flows from the next turn on.
    peer.say(record('D', 3, Buffer.from('x')));
    expect(come.map((inner) => inner.destroyed)).toEqual([true, true]);
    expect([link.end, peer.sent.filter(({ kind }) => kind === 'R').map(({ number }) => number)]).toEqual([
      undefined,
      [1, 3],
    ]);
  });

  test('may close its gateway from within', async () => {
    const { peer, gateway, inner } = await connected();
    const other = once(inner, 'error');
    inner.on('data', () => void gateway.close());
    await turn();
    peer.say(Buffer.concat([record('D', 1, Buffer.from('x')), record('D', 1, Buffer.from('y')), record('F', 1)]));
    expect((await other)[0]).toMatchObject({ code: 'run_not_open' });
    peer.exited();
    await gateway.gone;
  });
});

describe('a connection to inside', () => {
  test('is made with an even number', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    const connecting = gateway.connect('127.0.0.1', 3000);
    expect(peer.last('C')).toMatchObject({ number: 2, rest: Buffer.from([127, 0, 0, 1, 0xb8, 0x0b]) });
    peer.say(record('C', 2, u32(0)));
    const inner = await connecting;
    expect([inner.peer, inner.listener]).toEqual([{ address: '127.0.0.1', port: 3000 }, 0]);
    inner.write('GET');
    expect(peer.dataOf(2).toString()).toBe('GET');
  });

  test('that nobody takes is refused', async () => {
    const { peer, gateway } = await GatewayPeer.open();
    const connecting = gateway.connect('127.0.0.1', 3000);
    peer.say(record('C', 2, u32(111)));
    await expect(connecting).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  describe('that takes too long', () => {
    afterEach(() => {
      vi.useRealTimers();
    });

    test.each([
      ['and was given up inside', 125, 'LCR'],
      ['and was made after all', 0, 'LCRR'],
    ])('is given up, %s', async (_how, code, kinds) => {
      const { peer, gateway, link } = await GatewayPeer.open();
      await peer.listening(gateway);
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const connecting = gateway.connect('127.0.0.1', 3000);
      const failed = expect(connecting).rejects.toMatchObject({ code: 'ETIMEDOUT' });
      await vi.advanceTimersByTimeAsync(10_001);
      await failed;
      peer.say(record('C', 2, u32(code)));
      if (code === 0) peer.say(record('G', 2));
      expect([peer.kinds(), link.end]).toEqual([kinds, undefined]);
    });

    test('is not a listener: that ends the gateway', async () => {
      const lost = vi.fn<(reason: RunnerError) => void>();
      const { peer, gateway } = await GatewayPeer.open({ lost });
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const failed = expect(gateway.listen('tcp', '127.0.0.1', 80)).rejects.toEqual(fails('sandbox_lost'));
      await vi.advanceTimersByTimeAsync(10_001);
      await failed;
      expect(lost).toHaveBeenCalledOnce();
      expect(peer.frames).toContain(toSupervisor.kill);
    });
  });
});

describe('a datagram', () => {
  test('comes with the peer that sent it, which can be answered', async () => {
    const come: unknown[] = [];
    const { peer, gateway } = await GatewayPeer.open({
      datagram: (listener, bytes, from) => come.push([listener, bytes.toString(), from]),
    });
    const udp = await peer.listening(gateway, 'udp', 53);
    peer.say(record('U', udp, peerBytes({ address: '127.3.2.1', port: 513 }), Buffer.from('who?')));
    expect(come).toEqual([[udp, 'who?', { address: '127.3.2.1', port: 513 }]]);
    gateway.answer(udp, { address: '127.3.2.1', port: 513 }, Buffer.from('nobody'));
    expect(peer.last('U')).toEqual({
      kind: 'U',
      number: udp,
      rest: Buffer.concat([Buffer.from([127, 3, 2, 1, 1, 2]), Buffer.from('nobody')]),
    });
    gateway.answer(udp, somebody, Buffer.alloc(4097));
    expect(peer.kinds()).toBe('LU');
  });
});

describe('a gateway', () => {
  test('that ends by itself is lost: every connection is destroyed, then its owner is told, once', async () => {
    const order: string[] = [];
    const { peer, gateway, inner } = await connected({
      lost: (reason) => order.push(`lost ${reason.code} ${inner.destroyed}`),
    });
    const waits = [gateway.listen('tcp', '127.0.0.1', 81), gateway.connect('127.0.0.1', 82)];
    const failed = Promise.all(waits.map((wait) => expect(wait).rejects.toEqual(fails('sandbox_lost'))));
    const error = once(inner, 'error');
    peer.exited(1);
    await gateway.gone;
    await failed;
    expect((await error)[0]).toEqual(fails('sandbox_lost'));
    expect(order).toEqual(['lost sandbox_lost true']);
    expect(gateway.open).toBe(false);
    await expect(gateway.listen('tcp', '127.0.0.1', 80)).rejects.toEqual(fails('sandbox_lost'));
  });

  test('whose stream is gone is lost', async () => {
    const lost = vi.fn<(reason: RunnerError) => void>(() => {
      throw new Error('no');
    });
    const { peer, gateway, inner } = await connected({ lost });
    peer.emit('end');
    await gateway.gone;
    expect(lost).toHaveBeenCalledOnce();
    expect(inner.destroyed).toBe(true);
  });

  test('is closed by the end of its input, and tells nobody', async () => {
    const lost = vi.fn<(reason: RunnerError) => void>();
    const { peer, gateway, inner } = await connected({ lost });
    const closed = gateway.close();
    expect([inner.destroyed, peer.inputEnded]).toEqual([true, true]);
    peer.say(record('D', 1, Buffer.from('late'))); // It did not know yet.
    peer.exited();
    await closed;
    await gateway.close();
    expect(lost).not.toHaveBeenCalled();
  });

  test('that the supervisor refuses does not open', async () => {
    const { peer, link } = await GatewayPeer.link();
    const lost = vi.fn<(reason: RunnerError) => void>();
    const opening = Gateway.open(link, 7, { connection: () => undefined, datagram: () => undefined, lost });
    peer.refused();
    await expect(opening).rejects.toEqual(fails('too_many_calls'));
    expect(lost).not.toHaveBeenCalled();
  });

  test.each<[string, (listener: number) => Buffer]>([
    ['a record of no kind', () => record('X', 1)],
    ['a length that its kind cannot have', () => record('F', 1, u32(1))],
    ['a giant length', () => Buffer.from([0x44, 0, 0, 0, 0x80])],
    ['data without bytes', () => record('D', 1)],
    ['data of no connection', () => record('D', 9, Buffer.from('x'))],
    ['the end of no connection', () => record('F', 2)],
    ['a number used twice', (listener) => accept(1, listener)],
    ['an even number', (listener) => accept(4, listener)],
    ['a connection to no listener', () => accept(3, 9)],
    ['a connection to listener 0', () => accept(3, 0)],
    ['an answer that nobody waits for', (listener) => record('L', listener, u32(0))],
    ['an answer to no connect', () => record('C', 2, u32(0))],
    ['a datagram on a TCP listener', (listener) => record('U', listener, peerBytes(somebody))],
    ['data after the end', () => Buffer.concat([record('F', 1), record('D', 1, Buffer.from('x'))])],
    ['a second end', () => Buffer.concat([record('F', 1), record('F', 1)])],
    ['data after a reset', () => Buffer.concat([record('R', 1), record('D', 1, Buffer.from('x'))])],
    ['a second reset', () => Buffer.concat([record('R', 1), record('R', 1)])],
    ['a connection forgotten while it is open', () => record('G', 1)],
    ['a connection forgotten half-open', () => Buffer.concat([record('F', 1), record('G', 1)])],
    ['a connection forgotten twice', () => Buffer.concat([record('R', 1), record('G', 1), record('G', 1)])],
    [
      'more data than was granted',
      () => Buffer.concat(Array.from({ length: 5 }, () => record('D', 1, Buffer.alloc(65_532)))),
    ],
    ['credit for what was never sent', () => record('W', 1, u32(1))],
    ['no credit', () => record('W', 1, u32(0))],
    ['an errno beyond all', () => record('C', 2, u32(4096))],
    [
      'more connections than there may be',
      (listener) => Buffer.concat(Array.from({ length: 256 }, (_, n) => accept(3 + 2 * n, listener))),
    ],
  ])('that says %s ends its sandbox', async (_what, lie) => {
    const { peer, gateway, inner, listener } = await connected();
    peer.say(lie(listener));
    await gateway.gone;
    expect(peer.destroyed).toBe(true);
    await expect(gateway.connect('127.0.0.1', 80)).rejects.toEqual(fails('protocol_error'));
    expect(inner.destroyed).toBe(true);
  });

  test('that writes beside its records ends its sandbox', async () => {
    const { peer } = await connected();
    peer.say(Buffer.from('oops'), 100, 2);
    expect(peer.destroyed).toBe(true);
  });
});

import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { promises as dns } from 'node:dns';
import { Duplex } from 'node:stream';
import { decode, encode, streamEncode, type DecodedPacket, type RecordType } from 'dns-packet';
import * as fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { Checkpoint, NameDecision } from '../checkpoint/checkpoint.ts';
import { EgressFailure } from '../failure.ts';
import type { ListenerGateway } from './name-listeners.ts';
import { Names } from './names.ts';
import { closed, connectedPair } from '../sockets.fixture.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Lists `allowed.test` and what is below it, on 443. */
class Asked implements Pick<Checkpoint, 'name'> {
  readonly names: string[] = [];

  name(host: string): Promise<NameDecision> {
    this.names.push(host);
    if (host === 'broken.test') return Promise.reject(new EgressFailure('broken', 'the record cannot be written'));
    if (host === 'allowed.test' || host.endsWith('.allowed.test'))
      return Promise.resolve({ kind: 'listed', ports: [443] });
    return Promise.resolve({ kind: 'refused', reason: 'unlisted' });
  }
}

class Gateway implements ListenerGateway {
  readonly listening: string[] = [];

  listen(_: 'tcp', address: string, port: number): Promise<number> {
    this.listening.push(`${address}:${port}`);
    return Promise.resolve(this.listening.length);
  }

  unlisten(): void {}
}

function opened(): { names: Names; asked: Asked; gateway: Gateway } {
  const [checkpoint, gateway] = [new Asked(), new Gateway()];
  const names = new Names({ checkpoint, gateway });
  closing.push(() => names.close());
  return { names, asked: checkpoint, gateway };
}

const recursionDesired = 0x100;

function query(name: string, type: RecordType = 'A', more: object = {}): Buffer {
  return encode({ type: 'query', id: 4711, flags: recursionDesired, questions: [{ name, type }], ...more });
}

async function answered(names: Names, message: Buffer): Promise<DecodedPacket & { rcode: string }> {
  const reply = await names.answer(message);
  if (reply === undefined) throw new Error('no reply');
  // What the types of this library leave out.
  return decode(reply) as DecodedPacket & { rcode: string };
}

describe('what a name is', () => {
  test('a listed name has an address inside, and its listeners are open before the answer leaves', async () => {
    const { names, gateway, asked } = opened();
    const reply = await answered(names, query('allowed.test'));
    expect(reply).toMatchObject({ id: 4711, type: 'response', rcode: 'NOERROR', flag_rd: true, flag_ra: true });
    expect(reply.answers).toMatchObject([{ name: 'allowed.test', type: 'A', class: 'IN', data: '127.64.0.1' }]);
    expect(gateway.listening).toEqual(['127.64.0.1:443']);
    expect(names.hold(1)).toMatchObject({ host: 'allowed.test', port: 443 });
    expect(asked.names).toEqual(['allowed.test']);
    const again = await answered(names, query('allowed.test'));
    expect(again.answers).toMatchObject([{ data: '127.64.0.1' }]);
    expect((await answered(names, query('sub.allowed.test'))).answers).toMatchObject([{ data: '127.64.0.2' }]);
    expect(gateway.listening).toHaveLength(2);
  });

  test.each<RecordType | 'HTTPS' | 'SVCB' | 'ANY'>([
    'AAAA',
    'HTTPS',
    'SVCB',
    'ANY',
    'TXT',
    'MX',
    'SRV',
    'CNAME',
    'SOA',
  ])('a listed name has no %s, and says so without an error', async (type) => {
    const { names, gateway } = opened();
    const reply = await answered(names, query('allowed.test', type as RecordType));
    expect(reply.rcode).toBe('NOERROR');
    expect(reply.answers).toEqual([]);
    expect(gateway.listening).toEqual([]);
  });

  test.each<RecordType>(['A', 'AAAA', 'TXT', 'PTR'])('%s of any other name: it does not exist', async (type) => {
    const { names, asked, gateway } = opened();
    const reply = await answered(names, query('c2VjcmV0.evil.test', type));
    expect(reply.rcode).toBe('NXDOMAIN');
    expect(reply.answers).toEqual([]);
    expect(asked.names).toEqual(['c2vjcmv0.evil.test']);
    expect(gateway.listening).toEqual([]);
  });

  test('the case of a question is repeated, and is not another name', async () => {
    const { names, asked } = opened();
    const reply = await answered(names, query('aLLoWeD.TeSt'));
    expect(reply.questions).toMatchObject([{ name: 'aLLoWeD.TeSt' }]);
    expect(reply.answers).toMatchObject([{ name: 'aLLoWeD.TeSt', data: '127.64.0.1' }]);
    expect(asked.names).toEqual(['allowed.test']);
  });

  test('localhost is here, .invalid is nowhere, and nobody is asked about either', async () => {
    const { names, asked } = opened();
    expect((await answered(names, query('localhost'))).answers).toMatchObject([{ data: '127.0.0.1' }]);
    expect((await answered(names, query('localhost', 'AAAA'))).rcode).toBe('NOERROR');
    expect((await answered(names, query('unlisted-1.invalid'))).rcode).toBe('NXDOMAIN');
    expect(asked.names).toEqual([]);
  });

  test('a synthetic address has its name; no other address of loopback has one', async () => {
    const { names, asked } = opened();
    await answered(names, query('allowed.test'));
    const found = await answered(names, query('1.0.64.127.in-addr.arpa', 'PTR'));
    expect(found.answers).toMatchObject([{ type: 'PTR', data: 'allowed.test' }]);
    for (const name of ['9.9.64.127.in-addr.arpa', '1.0.0.127.in-addr.arpa', `1${'.0'.repeat(31)}.ip6.arpa`]) {
      expect((await answered(names, query(name, 'PTR'))).rcode).toBe('NXDOMAIN');
    }
    expect(asked.names).toEqual(['allowed.test']);
  });

  test('a gate that breaks gives no address', async () => {
    const { names } = opened();
    expect((await answered(names, query('broken.test'))).rcode).toBe('SERVFAIL');
    const failing: ListenerGateway = { listen: () => Promise.reject(new Error('lost')), unlisten: () => undefined };
    const without = new Names({ checkpoint: new Asked(), gateway: failing });
    closing.push(() => without.close());
    const reply = await answered(without, query('allowed.test'));
    expect(reply.rcode).toBe('SERVFAIL');
    expect(reply.answers).toEqual([]);
  });
});

describe('what is no question', () => {
  const question = { name: 'allowed.test', type: 'A' } as const;

  test.each<[string, Buffer, string]>([
    ['two questions', query('allowed.test', 'A', { questions: [question, question] }), 'FORMERR'],
    ['no question', query('allowed.test', 'A', { questions: [] }), 'FORMERR'],
    ['an answer in it', query('allowed.test', 'A', { answers: [{ ...question, data: '192.0.2.1' }] }), 'FORMERR'],
    ['a question cut short', query('allowed.test').subarray(0, 20), 'FORMERR'],
    ['a name without its type', query('allowed.test').subarray(0, -3), 'FORMERR'],
    [
      'a pointer for a name',
      Buffer.concat([query('').subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
      'FORMERR',
    ],
    ['a name of 300 bytes', query(Array.from({ length: 150 }, () => 'a').join('.')), 'FORMERR'],
    ['a label of 64 bytes', query(`${'a'.repeat(64)}.test`), 'FORMERR'],
    ['a notification', query('allowed.test', 'A', { flags: 4 << 11 }), 'NOTIMP'],
    ['an update', query('allowed.test', 'A', { flags: 5 << 11 }), 'NOTIMP'],
    [
      'another class',
      query('version.bind', 'TXT', { questions: [{ name: 'version.bind', type: 'TXT', class: 'CH' }] }),
      'REFUSED',
    ],
  ])('%s is answered, and opens and asks nothing', async (_, message, rcode) => {
    const { names, asked, gateway } = opened();
    expect(await answered(names, message)).toMatchObject({ id: 4711, rcode, answers: [] });
    expect(asked.names).toEqual([]);
    expect(gateway.listening).toEqual([]);
  });

  test.each([
    ['the root', Buffer.from([0])],
    ['a name with a dot inside a label', Buffer.from('\x0callowed.test\0', 'latin1')],
    ['a name with bytes beyond ASCII', Buffer.from('\x03a\xffb\x04test\0', 'latin1')],
    ['a name with a zero byte', Buffer.from('\x0dallowed\0.test\0', 'latin1')],
    ['a name with a space', Buffer.from('\x03a b\x04test\0', 'latin1')],
  ])('%s does not exist; the question comes back to the byte', async (_, name) => {
    const { names, asked } = opened();
    const message = Buffer.concat([query('').subarray(0, 12), name, Buffer.from([0, 1, 0, 1])]);
    const reply = (await names.answer(message)) ?? Buffer.alloc(4);
    expect(reply.readUInt16BE(2) & 15).toBe(3);
    expect(reply.subarray(12).equals(message.subarray(12))).toBe(true);
    expect(asked.names).toEqual([]);
  });

  test('a response, and what has no header, is not answered', async () => {
    const { names } = opened();
    expect(await names.answer(encode({ type: 'response', id: 1, questions: [question] }))).toBeUndefined();
    for (let length = 0; length < 12; length++) expect(await names.answer(Buffer.alloc(length))).toBeUndefined();
  });

  test('EDNS is answered with EDNS, without it without, and an unknown version of it is told', async () => {
    const { names } = opened();
    const edns = (ednsVersion: number): Buffer =>
      query('allowed.test', 'A', {
        additionals: [
          { name: '.', type: 'OPT', udpPayloadSize: 4096, flags: 0, ednsVersion, extendedRcode: 0, options: [] },
        ],
      });
    const known = await answered(names, edns(0));
    expect(known.additionals).toMatchObject([{ type: 'OPT', ednsVersion: 0, extendedRcode: 0, udpPayloadSize: 1232 }]);
    expect(known.answers).toHaveLength(1);
    const unknown = await answered(names, edns(1));
    expect(unknown.additionals).toMatchObject([{ type: 'OPT', extendedRcode: 1 }]);
    expect(unknown.answers).toEqual([]);
    expect((await answered(names, query('allowed.test'))).additionals).toEqual([]);
  });

  test('no bytes make it throw, and whatever it answers can be read', async () => {
    const { names } = opened();
    const whole = query('allowed.test', 'A', {
      additionals: [
        { name: '.', type: 'OPT', udpPayloadSize: 4096, flags: 0, ednsVersion: 0, extendedRcode: 0, options: [] },
      ],
    });
    const mutated = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 5 }).map((changes) => {
      const copy = Buffer.from(whole);
      for (const [at, value] of changes) copy[at] = value;
      return copy;
    });
    const anything = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, anything), async (message) => {
        const reply = await names.answer(message);
        if (reply === undefined) return;
        expect(reply.readUInt16BE(0)).toBe(message.readUInt16BE(0));
        expect(reply.length).toBeLessThanOrEqual(512);
        expect(decode(reply).type).toBe('response');
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('real resolvers', () => {
  test('Node asks over UDP', async () => {
    const { names } = opened();
    const socket = createSocket('udp4');
    closing.push(() => socket.close());
    socket.on('message', (message, peer) => {
      void names.answer(message).then((reply) => reply && socket.send(reply, peer.port, peer.address));
    });
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const resolver = new dns.Resolver();
    resolver.setServers([`127.0.0.1:${socket.address().port}`]);
    expect(await resolver.resolve4('allowed.test')).toEqual(['127.64.0.1']);
    expect(await resolver.reverse('127.64.0.1')).toEqual(['allowed.test']);
    await expect(resolver.resolve6('allowed.test')).rejects.toMatchObject({ code: 'ENODATA' });
    await expect(resolver.resolveTxt('allowed.test')).rejects.toMatchObject({ code: 'ENODATA' });
    await expect(resolver.resolve4('evil.test')).rejects.toMatchObject({ code: 'ENOTFOUND' });
  });

  test('over TCP questions may come in any pieces, one behind the other', async () => {
    const { names } = opened();
    const { inner, client } = await connectedPair();
    const over = names.serve(inner);
    const asked = ['allowed.test', 'evil.test', 'allowed.test'].map((name, id) =>
      streamEncode({ type: 'query', id, questions: [{ name, type: 'A' }] }),
    );
    const chunks: Buffer[] = [];
    client.on('data', (chunk: Buffer) => chunks.push(chunk));
    client.setNoDelay(true);
    for (const byte of Buffer.concat(asked)) client.write(Buffer.from([byte]));
    client.end();
    await closed(client);
    await over;
    const replies: DecodedPacket[] = [];
    for (let bytes = Buffer.concat(chunks); bytes.length > 0; bytes = bytes.subarray(2 + bytes.readUInt16BE(0))) {
      replies.push(decode(bytes.subarray(2, 2 + bytes.readUInt16BE(0))));
    }
    expect(replies.map(({ id, answers }) => [id, answers?.length])).toEqual([
      [0, 1],
      [1, 0],
      [2, 1],
    ]);
  });

  test('over TCP a message longer than any question ends the connection', async () => {
    const { names } = opened();
    const { inner, client } = await connectedPair();
    client.write(Buffer.concat([Buffer.from([0xff, 0xff]), Buffer.alloc(100)]));
    await names.serve(inner);
    client.on('end', () => client.end()).resume();
    await closed(client);
  });

  test('a client of DNS over TCP that goes away is forgotten', async () => {
    const { names } = opened();
    const { inner, client } = await connectedPair();
    const over = names.serve(inner);
    client.write(Buffer.from([0, 40, 1, 2]));
    client.resetAndDestroy();
    await over;
    expect(inner.destroyed).toBe(true);
  });

  test('who asks over TCP and reads no answers is not asked for more, and holds nobody up', async () => {
    const { names, asked } = opened();
    const question = streamEncode({ type: 'query', id: 1, questions: [{ name: 'evil.test', type: 'A' }] });
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => question));
    let turns = 0;
    const counting = setInterval(() => turns++, 0);
    let chunks = 0;
    const inner = new Duplex({
      read() {
        this.push(chunks++ < 20 ? many : null);
      },
      write() {
        // Never taken.
      },
    });
    const over = names.serve(inner);
    while (inner.writableLength < inner.writableHighWaterMark) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 50));
    clearInterval(counting);
    expect(inner.writableLength).toBeLessThan(2 * inner.writableHighWaterMark);
    expect(asked.names.length).toBeLessThan(1_000);
    expect(turns).toBeGreaterThan(10);
    inner.destroy();
    await over;
  });
});

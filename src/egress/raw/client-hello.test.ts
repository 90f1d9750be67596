import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { connect as connectTls } from 'node:tls';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { helloMessage, inRecords, serverNames, vector, type HelloParts } from './client-hello.fixture.ts';
import { ClientHelloReader, misfit, type HelloVerdict } from './client-hello.ts';
import { listening } from '../sockets.fixture.ts';

function verdictOf(bytes: Buffer): HelloVerdict {
  return new ClientHelloReader().push(bytes);
}

/** What a reader says when the bytes arrive in pieces of these sizes. */
function inPieces(bytes: Buffer, sizes: readonly number[]): { verdict: HelloVerdict; reader: ClientHelloReader } {
  const reader = new ClientHelloReader();
  let verdict: HelloVerdict = { kind: 'more' };
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    verdict = reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  return { verdict, reader };
}

const allowed = { kind: 'hello', serverName: 'allowed.test' } as const;

describe('hellos of real clients', () => {
  const python = `import ssl,socket,sys
context=ssl.create_default_context()
context.wrap_socket(socket.create_connection(("127.0.0.1",int(sys.argv[1]))),server_hostname="allowed.test")`;
  const clients: readonly [string, (port: string) => readonly [string, readonly string[]]][] = [
    [
      'curl',
      (port) => ['curl', ['-sk', '--noproxy', '*', '--connect-to', `::127.0.0.1:${port}`, 'https://allowed.test/']],
    ],
    ['openssl', (port) => ['openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'allowed.test']]],
    [
      'openssl, TLS 1.2',
      (port) => ['openssl', ['s_client', '-tls1_2', '-connect', `127.0.0.1:${port}`, '-servername', 'Allowed.Test']],
    ],
    ['Python', (port) => ['python3', ['-c', python, port]]],
  ];

  test.each(clients)('%s says the name it means', async (_, command) => {
    const bytes = await firstBytes((port) => {
      const [program, options] = command(String(port));
      spawn(program, options, { stdio: 'ignore' }).on('error', () => undefined);
    });
    expect(verdictOf(bytes)).toEqual(allowed);
  });

  test('Node says the name it means, or none', async () => {
    const options = { host: '127.0.0.1', rejectUnauthorized: false };
    const named = await firstBytes((port) => {
      connectTls({ ...options, port, servername: 'allowed.test' }).on('error', () => undefined);
    });
    expect(verdictOf(named)).toEqual(allowed);
    const unnamed = await firstBytes((port) => {
      connectTls({ ...options, port }).on('error', () => undefined);
    });
    expect(verdictOf(unnamed)).toEqual({ kind: 'fault', fault: 'no_sni' });
    expect(misfit(verdictOf(unnamed), '192.0.2.1')).toBeUndefined();
    expect(misfit(verdictOf(unnamed), 'allowed.test')).toBeDefined();
  });

  test('a real hello is the same in any segments and any records', async () => {
    const bytes = await firstBytes((port) => {
      connectTls({ port, host: '127.0.0.1', servername: 'allowed.test' }).on('error', () => undefined);
    });
    const message = bytes.subarray(5);
    fc.assert(
      fc.property(sizes(), sizes(), (segments, records) => {
        const { verdict, reader } = inPieces(inRecords(message, ...records), segments);
        expect(verdict).toEqual(allowed);
        expect(reader.bytes).toEqual(inRecords(message, ...records));
        expect(reader.endOfHello).toBe(reader.bytes.length);
      }),
      { numRuns: 50 },
    );
  });
});

describe('what is refused', () => {
  const hello = (parts: HelloParts): Buffer => inRecords(helloMessage(parts));
  const names = (...all: string[]): Buffer => hello({ name: null, extensions: [[0, serverNames(...all)]] });
  const raw = (message: Buffer): Buffer => inRecords(message);
  const many = inRecords(helloMessage({ extensions: [[21, Buffer.alloc(3_000)]] }), 1);

  test.each<[string, string, Buffer]>([
    ['HTTP', 'not_tls', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['one byte that TLS does not begin with', 'not_tls', Buffer.from([0x80])],
    ['SSL 2', 'not_tls', Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15])],
    ['SSL 3', 'not_tls', Buffer.from([22, 3, 0, 0, 4])],
    ['an alert', 'not_tls', Buffer.from([21, 3, 1, 0, 2, 1, 0])],
    ['a hello without a name', 'no_sni', hello({ name: null })],
    ['a hello without extensions', 'no_sni', raw(withoutExtensions())],
    ['ECH', 'ech', hello({ extensions: [[0xfe0d, Buffer.alloc(40)]] })],
    ['the encrypted name of older drafts', 'ech', hello({ extensions: [[0xffce, Buffer.alloc(40)]] })],
    ['ECH without a name outside', 'ech', hello({ name: null, extensions: [[0xfe0d, Buffer.alloc(40)]] })],
    ['two names', 'bad', names('allowed.test', 'evil.test')],
    ['no name in the list', 'bad', hello({ name: null, extensions: [[0, vector(2, Buffer.alloc(0))]] })],
    ['two lists of names', 'bad', hello({ extensions: [[0, serverNames('evil.test')]] })],
    [
      'bytes behind the list',
      'bad',
      hello({ name: null, extensions: [[0, Buffer.concat([serverNames('a.test'), Buffer.alloc(1)])]] }),
    ],
    [
      'a name of another type',
      'bad',
      hello({
        name: null,
        extensions: [[0, vector(2, Buffer.concat([Buffer.from([1]), vector(2, Buffer.from('a.test'))]))]],
      }),
    ],
    ['an address for a name', 'bad', names('192.0.2.1')],
    ['an IPv6 address for a name', 'bad', names('::1')],
    ['a name with a dot at its end', 'bad', names('allowed.test.')],
    ['a name with a zero byte', 'bad', names('allowed.test\0.evil.test')],
    ['a name with a space', 'bad', names('allowed test')],
    ['a name with an empty label', 'bad', names('allowed..test')],
    ['an empty name', 'bad', names('')],
    ['a name longer than names are', 'bad', names(`${'a.'.repeat(130)}test`)],
    ['a label longer than labels are', 'bad', names(`${'a'.repeat(64)}.test`)],
    [
      'any extension twice',
      'bad',
      hello({
        extensions: [
          [16, Buffer.alloc(2)],
          [16, Buffer.alloc(2)],
        ],
      }),
    ],
    ['bytes behind the extensions', 'bad', hello({ trailing: Buffer.from([0]) })],
    ['a session id that is too long', 'bad', hello({ sessionId: Buffer.alloc(33) })],
    ['half a cipher suite', 'bad', hello({ ciphers: Buffer.alloc(3) })],
    ['a version that is none', 'bad', hello({ version: 0x0304 })],
    ['another message first', 'bad', raw(Buffer.from([2, 0, 0, 0]))],
    [
      'a second message in the same record',
      'bad',
      raw(Buffer.concat([helloMessage(), helloMessage({ name: 'evil.test' })])),
    ],
    ['an empty record', 'bad', Buffer.from([22, 3, 1, 0, 0])],
    ['a record longer than records are', 'bad', Buffer.from([22, 3, 1, 0x40, 1])],
    [
      'another record within the hello',
      'bad',
      Buffer.concat([
        raw(helloMessage()).subarray(0, 0),
        inRecords(helloMessage(), 20).subarray(0, 25),
        Buffer.from([20, 3, 3, 0, 1, 1]),
      ]),
    ],
    ['a hello of 16 KiB and more', 'too_long', raw(Buffer.from([1, 0, 0x40, 1]))],
    ['more records than any client sends', 'too_long', many],
  ])('%s (%s)', (_, fault, bytes) => {
    expect(verdictOf(bytes)).toEqual({ kind: 'fault', fault });
    expect(inPieces(bytes, [1]).verdict).toEqual({ kind: 'fault', fault });
  });

  function withoutExtensions(): Buffer {
    const message = helloMessage({ name: null });
    const shorter = message.subarray(0, message.length - 2);
    shorter.writeUIntBE(shorter.length - 4, 1, 3);
    return shorter;
  }
});

describe('laws', () => {
  test('a part of a hello is never a hello, and the rest completes it', () => {
    const bytes = inRecords(helloMessage(), 50);
    for (let length = 0; length < bytes.length; length++) {
      const reader = new ClientHelloReader();
      expect(reader.push(bytes.subarray(0, length))).toEqual({ kind: 'more' });
      expect(reader.push(bytes.subarray(length))).toEqual(allowed);
    }
  });

  test('no bytes make it throw, and a name that it reads is in the bytes', () => {
    const bytes = inRecords(helloMessage({ extensions: [[16, Buffer.alloc(9, 2)]] }), 90, 33);
    const mutated = fc
      .array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 })
      .map((changes) => {
        const copy = Buffer.from(bytes);
        for (const [at, value] of changes) copy[at] = value;
        return copy;
      });
    const anything = fc.uint8Array({ maxLength: 400 }).map((tail) => Buffer.concat([Buffer.from([22, 3, 1]), tail]));
    fc.assert(
      fc.property(fc.oneof(mutated, anything), sizes(), (input, segments) => {
        const { verdict } = inPieces(input, segments);
        expect(verdict).toEqual(verdictOf(input));
        if (verdict.kind !== 'hello') return;
        // Its fragments put together again: the name may lie across two records.
        expect(withoutRecords(input).toString('latin1').toLowerCase()).toContain(verdict.serverName);
      }),
      { numRuns: 2_000 },
    );
  });

  test('what is kept is bounded', () => {
    const reader = new ClientHelloReader();
    let pushed = 0;
    while (reader.verdict.kind === 'more') {
      reader.push(
        Buffer.concat([Buffer.from([22, 3, 1]), vector(2, Buffer.from(pushed === 0 ? [1, 0, 0x3f, 0xff] : [0, 0]))]),
      );
      pushed++;
    }
    expect(reader.verdict).toEqual({ kind: 'fault', fault: 'too_long' });
    expect(reader.bytes.length).toBeLessThan(40_000);
  });
});

function sizes(): fc.Arbitrary<number[]> {
  return fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 5 });
}

function withoutRecords(bytes: Buffer): Buffer {
  const fragments: Buffer[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    fragments.push(bytes.subarray(at + 5, at + 5 + bytes.readUInt16BE(at + 3)));
  }
  return Buffer.concat(fragments);
}

/** What a client says first to a server that only listens: everything of its first record. */
async function firstBytes(start: (port: number) => void): Promise<Buffer> {
  const server = createServer();
  const port = await listening(server);
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no client came')), 10_000);
      server.once('connection', (socket) => {
        let bytes: Buffer = Buffer.alloc(0);
        socket.on('error', () => undefined);
        socket.on('data', (chunk: Buffer) => {
          bytes = Buffer.concat([bytes, chunk]);
          if (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) return;
          clearTimeout(timer);
          socket.destroy();
          resolve(bytes);
        });
      });
      start(port);
    });
  } finally {
    server.close();
  }
}

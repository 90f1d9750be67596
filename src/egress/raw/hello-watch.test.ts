import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { helloMessage, inRecords, vector } from './client-hello.fixture.ts';
import { HelloWatch } from './hello-watch.ts';

const host = 'allowed.test';
const changeCipherSpec = record(20, Buffer.from([1]));
const retry = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');

function record(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 3, 3]), vector(2, content)]);
}

function serverHello(random: Buffer): Buffer {
  return record(22, Buffer.concat([Buffer.from([2, 0, 0, 80, 3, 3]), random, Buffer.alloc(46)]));
}

/** What is sent on of bytes that come in pieces of these sizes. */
function through(watch: HelloWatch, bytes: Buffer, sizes: readonly number[]): Buffer {
  const passed: Buffer[] = [];
  for (const piece of pieces(bytes, sizes)) passed.push(watch.sent(piece));
  return Buffer.concat(passed);
}

function answered(watch: HelloWatch, random: Buffer, sizes: readonly number[]): HelloWatch {
  for (const piece of pieces(serverHello(random), sizes)) watch.received(piece);
  return watch;
}

function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    found.push(bytes.subarray(at, at + size));
    at += size;
  }
  return found;
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const applicationData = fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => record(23, Buffer.from(bytes)));
const anything = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => Buffer.from(bytes));

describe('after the first hello', () => {
  test('once the server has answered without asking again, any bytes pass as they are', () => {
    fc.assert(
      fc.property(fc.array(applicationData), anything, sizes, sizes, (early, rest, sent, received) => {
        const watch = new HelloWatch(host);
        const before = Buffer.concat([...early, changeCipherSpec]);
        expect(through(watch, before, sent)).toEqual(before);
        answered(watch, Buffer.alloc(32, 9), received);
        expect(through(watch, rest, sent)).toEqual(rest);
      }),
    );
  });

  test('a server that speaks no TLS ends the watch too', () => {
    const watch = new HelloWatch(host);
    watch.received(Buffer.from('220 hello\r\n'));
    expect(watch.sent(inRecords(helloMessage({ name: 'evil.test' })))).toHaveLength(
      inRecords(helloMessage({ name: 'evil.test' })).length,
    );
  });

  test('a second hello that the server asks for passes when it names the same host', () => {
    fc.assert(
      fc.property(fc.array(applicationData), sizes, sizes, sizes, (early, sent, received, records) => {
        const watch = new HelloWatch(host);
        const before = Buffer.concat(early);
        expect(through(watch, before, sent)).toEqual(before);
        answered(watch, retry, received);
        const bytes = Buffer.concat([
          ...early,
          changeCipherSpec,
          inRecords(helloMessage(), ...records),
          Buffer.from('x'),
        ]);
        expect(through(watch, bytes, sent)).toEqual(bytes);
      }),
    );
  });

  test('of a second hello for another host, for none, for a hidden one or a malformed one, not a byte passes', () => {
    const others = [
      helloMessage({ name: 'evil.test' }),
      helloMessage({ name: null }),
      helloMessage({ extensions: [[0xfe0d, Buffer.alloc(20)]] }),
      helloMessage({ trailing: Buffer.alloc(1) }),
    ];
    fc.assert(
      fc.property(fc.constantFrom(...others), fc.array(applicationData), sizes, (other, early, sent) => {
        const watch = answered(new HelloWatch(host), retry, [100]);
        const before = Buffer.concat([...early, changeCipherSpec]);
        let passed = 0;
        expect(() => {
          for (const piece of pieces(Buffer.concat([before, inRecords(other, 30)]), sent)) {
            passed += watch.sent(piece).length;
          }
        }).toThrow('asked again');
        expect(passed).toBeLessThanOrEqual(before.length);
      }),
    );
  });

  test('a handshake message that does not wait for the server is refused', () => {
    for (const name of [host, 'evil.test']) {
      const watch = new HelloWatch(host);
      expect(() => watch.sent(Buffer.concat([changeCipherSpec, inRecords(helloMessage({ name }))]))).toThrow('before');
    }
  });
});

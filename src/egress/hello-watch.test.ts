import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { helloMessage, inRecords, vector } from './client-hello.fixture.ts';
import { ClientHelloReader } from './client-hello.ts';
import { HelloWatch } from './hello-watch.ts';

const host = 'allowed.test';
const earlyData = [42, Buffer.alloc(0)] as const;
const changeCipherSpec = record(20, Buffer.from([1]));

function record(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 3, 3]), vector(2, content)]);
}

function watchAfter(first: Buffer): HelloWatch {
  const reader = new ClientHelloReader();
  reader.push(first);
  return new HelloWatch(reader, host);
}

/** What is sent on of bytes that come in pieces of these sizes. */
function through(watch: HelloWatch, bytes: Buffer, sizes: readonly number[]): Buffer {
  const passed: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    passed.push(watch.take(bytes.subarray(at, at + size)));
    at += size;
  }
  return Buffer.concat(passed);
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const applicationData = fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => record(23, Buffer.from(bytes)));

describe('after the first hello', () => {
  test('whatever is no second hello passes as it is, in any pieces', () => {
    const first = inRecords(helloMessage());
    const keyExchange = record(22, Buffer.from([16, 0, 0, 1, 0]));
    fc.assert(
      fc.property(fc.boolean(), fc.array(applicationData, { minLength: 1 }), sizes, (old, data, pieces) => {
        const bytes = Buffer.concat([...(old ? [keyExchange] : []), changeCipherSpec, ...data]);
        expect(through(watchAfter(first), bytes, pieces)).toEqual(bytes);
      }),
    );
  });

  test('a second hello for the same host passes, with early data before it or not', () => {
    fc.assert(
      fc.property(fc.array(applicationData, { maxLength: 5 }), sizes, sizes, (data, pieces, records) => {
        const first = inRecords(helloMessage({ extensions: data.length > 0 ? [earlyData] : [] }));
        const second = inRecords(helloMessage(), ...records.map((size) => size + 1));
        const after = Buffer.from('anything at all');
        const bytes = Buffer.concat([...data, changeCipherSpec, second, after]);
        expect(through(watchAfter(first), bytes, pieces)).toEqual(bytes);
      }),
    );
  });

  test('of a second hello for another host, for none or for a hidden one, not a byte passes', () => {
    const others = [
      helloMessage({ name: 'evil.test' }),
      helloMessage({ name: null }),
      helloMessage({ extensions: [[0xfe0d, Buffer.alloc(20)]] }),
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...others),
        fc.array(applicationData, { maxLength: 5 }),
        sizes,
        (other, data, pieces) => {
          const watch = watchAfter(inRecords(helloMessage({ extensions: [earlyData] })));
          const before = Buffer.concat([...data, changeCipherSpec]);
          const bytes = Buffer.concat([before, inRecords(other, 30)]);
          let passed = 0;
          expect(() => {
            for (let at = 0, turn = 0; at < bytes.length; turn++) {
              const size = pieces[turn % pieces.length] ?? 1;
              passed += watch.take(bytes.subarray(at, at + size)).length;
              at += size;
            }
          }).toThrow('HelloRetryRequest');
          expect(passed).toBeLessThanOrEqual(before.length);
        },
      ),
    );
  });

  test('a second hello right behind the first, in the same segment, is seen too', () => {
    const both = Buffer.concat([inRecords(helloMessage()), inRecords(helloMessage({ name: 'evil.test' }))]);
    expect(() => watchAfter(both)).toThrow('evil.test');
  });
});

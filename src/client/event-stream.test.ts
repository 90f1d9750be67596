import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readEvents, type StreamEvent } from './event-stream.ts';

const eventOf = fc.record({
  id: fc.stringMatching(/^[0-9]{1,6}$/),
  event: fc.constantFrom('message', 'end', 'output'),
  data: fc.string({ unit: 'grapheme' }).filter((text) => !/[\r\n]/.test(text)),
});

test('events come whole, however their bytes are cut, and what is cut off never happened', async () => {
  const cases = fc.tuple(fc.array(eventOf, { maxLength: 8 }), fc.array(fc.nat(400), { maxLength: 12 }), fc.nat(3));
  await fc.assert(
    fc.asyncProperty(cases, async ([events, cuts, dropped]) => {
      const newline = dropped === 1 ? '\r\n' : '\n';
      const text = events
        .map(({ id, event, data }) => [`: beat`, `id: ${id}`, `event: ${event}`, `data: ${data}`, '', ''].join(newline))
        .join('');
      const half = `id: 9${newline}data: half`;
      const bytes = Buffer.from(text + half);
      expect(await all(readEvents(pieces(bytes, cuts)))).toEqual(events);
    }),
  );
});

test('a line without an end is given up', async () => {
  const endless = async function* (): AsyncGenerator<Uint8Array, void> {
    for (;;) yield Buffer.alloc(1 << 20, 'x');
  };
  await expect(all(readEvents(endless()))).rejects.toMatchObject({ code: 'internal' });
});

async function all(events: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const found: StreamEvent[] = [];
  for await (const event of events) found.push(event);
  return found;
}

async function* pieces(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array, void> {
  let from = 0;
  for (const cut of cuts.map((at) => Math.min(at, bytes.length)).sort((a, b) => a - b)) {
    yield bytes.subarray(from, cut);
    from = Math.max(from, cut);
  }
  yield bytes.subarray(from);
}

import type { ServerResponse } from 'node:http';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeService } from './service.fixture.ts';

const run = '01m7zvavgmmzvhekr10a9xreag';

test('output goes on after lost connections without losing or repeating a byte', async () => {
  const cases = fc.record({
    output: fc.uint8Array({ minLength: 2000, maxLength: 6000, size: 'max' }),
    chunkBytes: fc.integer({ min: 50, max: 700 }),
    // How many bytes of the stream each connection lets through.
    cuts: fc.array(fc.integer({ min: 0, max: 900 }), { maxLength: 5 }),
    from: fc.nat(100),
  });
  let cutInAll = 0;
  await fc.assert(
    fc.asyncProperty(cases, async ({ output, chunkBytes, cuts, from }) => {
      const offset = Math.min(from, output.length);
      const left = [...cuts];
      await using fake = await FakeService.start((request, response) => {
        const begin = Number(request.headers['last-event-id'] ?? Number.NaN);
        stream(response, Buffer.from(output), begin, chunkBytes, left.shift());
      });
      const client = await fake.client();
      const reading = client.runs.get(run).output('c1', { offset });
      const chunks: Uint8Array[] = [];
      for await (const bytes of reading) chunks.push(bytes);
      expect(Buffer.concat(chunks).equals(output.subarray(offset))).toBe(true);
      expect(reading.nextOffset).toBe(output.length);
      cutInAll += fake.reasks.length;
    }),
    { numRuns: 25 },
  );
  expect(cutInAll).toBeGreaterThan(10);
});

test.each([
  ['a gap', ['id: 8\ndata: YWJj\n\n'], 4],
  ['less than there was', ['id: 5\ndata: YWJj\n\n', 'id: 4\ndata: YQ==\n\n'], 2],
  ['an offset that is no number', ['id: x\ndata: YWJj\n\n'], 2],
])('a service that sends %s is not believed', async (_, events, offset) => {
  await using fake = await FakeService.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(events.join(''));
  });
  const client = await fake.client();
  const reading = async (): Promise<void> => {
    for await (const bytes of client.runs.get(run).output('c1', { offset })) expect(bytes.length).toBeGreaterThan(0);
  };
  await expect(reading()).rejects.toMatchObject({ code: 'internal' });
});

test('a byte that is sent twice is given once', async () => {
  await using fake = await FakeService.start((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end('id: 3\ndata: YWJj\n\nid: 5\ndata: YmNkZQ==\n\nid: 5\nevent: end\ndata: {}\n\n');
  });
  const client = await fake.client();
  const chunks: Uint8Array[] = [];
  for await (const bytes of client.runs.get(run).output('c1')) chunks.push(bytes);
  expect(Buffer.concat(chunks).toString()).toBe('abcde');
});

test('reading that is given up leaves no connection behind', async () => {
  const closed = resolvers();
  await using fake = await FakeService.start((request, response) => {
    request.socket.on('close', () => closed.resolve());
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('id: 3\ndata: YWJj\n\n');
  });
  const client = await fake.client();
  for await (const bytes of client.runs.get(run).output('c1')) {
    expect(bytes.length).toBe(3);
    break;
  }
  await closed.promise;
});

function stream(response: ServerResponse, output: Buffer, from: number, chunkBytes: number, cut?: number): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  let text = ': hello\n\n';
  for (let at = from; at < output.length; at += chunkBytes) {
    const chunk = output.subarray(at, at + chunkBytes);
    text += `id: ${at + chunk.length}\ndata: ${chunk.toString('base64')}\n\n`;
  }
  text += `id: ${output.length}\nevent: end\ndata: {}\n\n`;
  if (cut === undefined) response.end(text);
  else response.write(text.slice(0, cut) || ':', () => response.destroy());
}

function resolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

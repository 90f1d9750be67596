import { expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { Api } from './api.fixture.ts';
import { BodyRoom } from './body.ts';

test('one team leaves half of the room for bodies to others', () => {
  const room = new BodyRoom(100);
  room.take('red', 50);
  expect(() => room.take('red', 1)).toThrow('too many large requests');
  room.take('blue', 50);
  expect(() => room.take('green', 1)).toThrow('too many large requests');
  room.give('red', 50);
  room.take('red', 50);
});

test('JSON is bounded, whether its length is said or not; bytes beside a call are not made into JSON', async () => {
  const api = await Api.open();
  const key = api.key();
  const { id } = await api.open(key);
  const json = { 'content-type': 'application/json' };
  const at = `/v1/runs/${id}/calls`;
  const long = JSON.stringify({ tool: 'write', path: 'a', content: { utf8: 'x'.repeat(4 * 1024 * 1024) } });
  const streamed = (): ReadableStream => new Blob([long]).stream();
  for (const [path, body, headers] of [
    [`${at}/a`, long, { ...json, 'content-length': `${long.length}` }],
    [`${at}/b`, streamed(), json],
    [`${at}/c/stdin`, long, { ...json, 'content-length': `${long.length}` }],
    [`/v1/runs/${id}/mcp`, long, { ...json, 'content-length': `${long.length}` }],
  ] as const) {
    const method = path.endsWith('stdin') || path.endsWith('mcp') ? 'POST' : 'PUT';
    expect((await api.ask(key, method, path, body, headers)).status, path).toBe(413);
  }
  const call = (rest: object): string => encodeURIComponent(JSON.stringify(rest));
  const bytes = new Uint8Array(5 * 1024 * 1024).fill(7);
  const type = { 'content-type': 'application/octet-stream' };
  const given: unknown[] = [];
  const { runner } = api.fake;
  const made = runner.get(id).call.bind(runner.get(id));
  runner.get(id).call = (callId, input) => {
    given.push(input);
    return made(callId, input);
  };
  const send = async (callId: string, rest: object, length: Record<string, string> = {}): Promise<number> =>
    (await api.ask(key, 'PUT', `${at}/${callId}/payload?call=${call(rest)}`, bytes, { ...type, ...length })).status;
  expect(await send('w', { tool: 'write', path: 'a' }, { 'content-length': `${bytes.length}` })).toBe(200);
  expect(await send('u', { tool: 'upload', path: 'a' })).toBe(200);
  const digest = digestOf(bytes);
  expect(given.map(withDigests)).toEqual([
    { tool: 'write', path: 'a', content: { base64: digest } },
    { tool: 'upload', path: 'a', tar: digest },
  ]);
  for (const rest of [
    { tool: 'read', path: 'a' },
    { tool: 'constructor' },
    { path: 'a' },
    { tool: 'write', path: 'a', content: 1 },
  ])
    expect(await send('x', rest), JSON.stringify(rest)).toBe(400);
  expect((await api.ask(key, 'PUT', `${at}/y/payload?call=[`, bytes, type)).status).toBe(400);
  const short = { ...type, 'content-length': '600000' };
  expect(
    (await api.ask(key, 'PUT', `${at}/z/payload?call=${call({ tool: 'write', path: 'a' })}`, bytes, short)).status,
  ).toBe(400);
  await api.close();
});

/** In the place of bytes: to compare megabytes one by one takes the matcher a minute. */
function withDigests(value: unknown): unknown {
  if (value instanceof Uint8Array) return digestOf(value);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, of]) => [key, withDigests(of)]));
}

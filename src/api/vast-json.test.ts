import { assert, jsonValue, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Api } from './api.fixture.ts';
import { refuseVast } from './vast-json.ts';

const told = (json: string): string => {
  try {
    refuseVast(Buffer.from(json));
    return 'taken';
  } catch (error) {
    return String(error);
  }
};

describe('JSON that is understood', () => {
  test('is what has few values, whatever stands in its texts', () => {
    assert(property(jsonValue({ maxDepth: 8 }), (value) => told(JSON.stringify(value)) === 'taken'));
    const text = JSON.stringify({ a: '[{,'.repeat(1_000_000), 'b"\\': '\\"[,'.repeat(100_000), c: '\\' });
    expect(told(text)).toBe('taken');
    expect(told('"\\"'.repeat(100_000))).toBe('taken');
  });

  test('has no more values than a bound, however they are spread', () => {
    const many = (count: number, one: string): string => Array.from({ length: count }, () => one).join();
    expect(told(`[${many(32_000, '1')}]`)).toBe('taken');
    expect(told(`[${many(33_000, '1')}]`)).toContain('32768 values');
    expect(told(`{"a":{${many(33_000, '"\\"":1')}}}`)).toContain('32768 values');
    expect(told(`[${many(17_000, '{}')}]`)).toContain('32768 values');
    expect(told(`["\\\\",${many(33_000, '[]')}`)).toContain('32768 values');
  });

  test('has no more levels than a bound', () => {
    expect(told(`${'['.repeat(64)}${']'.repeat(64)}`)).toBe('taken');
    expect(told(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`)).toContain('64 levels');
  });
});

test('no body of a million values, or levels, is understood before it is refused, by whatever door it comes', async () => {
  const api = await Api.open();
  const key = api.key();
  const { id } = await api.open(key);
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const ones = Array.from({ length: 500_000 }, () => '1').join();
  for (const vast of [`[${ones}]`, `${'['.repeat(400_000)}${']'.repeat(400_000)}`]) {
    const given = `{"tool":"exec","argv":${vast}}`;
    const message = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"exec","arguments":${given}}}`;
    for (const [method, path, body] of [
      ['PUT', `/v1/runs/${id}/calls/c1`, given],
      ['POST', `/v1/runs/${id}/mcp`, message],
      ['POST', `/v1/runs/${id}/context`, given.slice(0, 1_000_000)],
      ['POST', '/v1/runs', given.slice(0, 1_000_000)],
      ['POST', '/v1/keys', given.slice(0, 1_000_000)],
    ] as const) {
      const answer = await api.ask(key, method, path, body, headers);
      expect([path, answer.status, await answer.text()]).toEqual([path, 400, expect.stringContaining('JSON of more')]);
    }
  }
  await api.close();
});

test('of thousands of values that are wrong the first are told', async () => {
  const api = await Api.open();
  const key = api.key();
  const { id } = await api.open(key);
  const argv = Array.from({ length: 30_000 }, () => 1);
  const answer = await api.ask(key, 'PUT', `/v1/runs/${id}/calls/c1`, { tool: 'exec', argv });
  const text = await answer.text();
  expect([answer.status, text.match(/expected string/g)?.length]).toEqual([400, 20]);
  await api.close();
});

import { expect, test } from 'vitest';
import type { EgressDecided } from '../egress/checkpoint/record.ts';
import { ToldRecord } from './told-record.ts';

function told(): { readonly record: ToldRecord; readonly lines: string[]; readonly written: string[] } {
  const [lines, written]: [string[], string[]] = [[], []];
  const record = new ToldRecord(
    {
      decided: async ({ id }) => void written.push(`decided ${id}`),
      ended: async ({ id }) => void written.push(`ended ${id}`),
      counted: async ({ count }) => void written.push(`counted ${count}`),
    },
    (line) => void lines.push(line),
  );
  return { record, lines, written };
}

const request: EgressDecided = {
  id: 1,
  kind: 'request',
  via: 'proxy',
  host: 'npm.test',
  port: 443,
  scheme: 'https',
  method: 'GET',
  path: '/left',
  decision: 'allowed',
};
const bytes = { sentBytes: 1, receivedBytes: 2, ms: 3 };

test('what passed is known by its host, what did not is told once and counted, all of it is written', async () => {
  const { record, lines, written } = told();
  await record.decided(request);
  await record.decided({ ...request, id: 2, port: 8443 });
  await record.decided({ ...request, id: 3, host: 'gone.test' });
  for (const id of [4, 5])
    await record.decided({ ...request, id, decision: 'denied', method: 'PUT', reason: 'no rule' });
  await record.decided({ id: 6, kind: 'name', via: 'name', host: 'evil.test', decision: 'denied' });
  await record.ended({ id: 1, result: 'done', ...bytes });
  await record.ended({ id: 2, result: 'done', ...bytes });
  await record.ended({ id: 3, result: 'unresolvable', reason: 'no such name', ...bytes });
  await record.counted({ host: 'evil.test', reason: 'no rule', count: 40 });
  expect(record.reached).toEqual(['npm.test', 'npm.test:8443']);
  expect(record.refused).toBe(43);
  expect(lines).toEqual([
    'refused: PUT https://npm.test/left: no rule',
    'refused: the name evil.test',
    'unresolvable: GET https://gone.test/left: no such name',
  ]);
  expect(written).toHaveLength(10);
});

test('an address that the rules refuse after all is a refusal too', async () => {
  const { record, lines } = told();
  await record.decided(request);
  await record.ended({ id: 1, result: 'denied', reason: 'private', ...bytes });
  expect([record.refused, record.reached, lines]).toEqual([1, [], ['refused: GET https://npm.test/left: private']]);
});

test('whoever asks for ever new things does not fill the terminal', async () => {
  const { record, lines } = told();
  for (let id = 1; id <= 500; id++)
    await record.decided({ ...request, id, host: `${id}.test`, decision: 'denied', reason: 'no rule' });
  expect(lines).toHaveLength(101);
  expect(lines.at(-1)).toMatch(/in the record only/);
  expect(record.refused).toBe(500);
});

test('a host that is refused for one reason is told a few times', async () => {
  const { record, lines } = told();
  for (let id = 1; id <= 20; id++)
    await record.decided({ ...request, id, path: `/${id}`, decision: 'denied', reason: 'private' });
  expect(lines.map((line) => line.replace('refused: GET https://npm.test', ''))).toEqual([
    '/1: private',
    '/2: private',
    '/3: private (more like it is in the record)',
  ]);
});

test('what cannot be written is not told, and not let through by whoever waits for it', async () => {
  const lines: string[] = [];
  const full = async (): Promise<void> => {
    throw new Error('no space');
  };
  const record = new ToldRecord({ decided: full, ended: full, counted: full }, (line) => void lines.push(line));
  await expect(record.decided({ ...request, decision: 'denied' })).rejects.toThrow('no space');
  expect(lines).toEqual([]);
});

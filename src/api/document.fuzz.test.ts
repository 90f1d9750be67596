import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { errorTable, isErrorCode } from '../errors.ts';
import { newId } from '../ids.ts';
import { Api } from './api.fixture.ts';
import { allRoutes } from './routes.ts';
import { valueOf, type Schema } from './schema.fixture.ts';

/**
 * Requests made of the OpenAPI document alone: right ones, and right ones with something wrong in them. Whatever comes, the answer
 * is what the document says or a problem with a code of the table, soon, and never a mistake of ours.
 */
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema?: Schema }>> };
}
const document = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')) as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
);
const answers = new Map(allRoutes().map((route) => [route.operation, route]));

const oddTexts = [
  '',
  '.',
  '..',
  '../../etc/passwd',
  '\0',
  '%00',
  '%2e%2e%2f',
  'a\nb',
  '\\',
  '💥',
  'x'.repeat(5000),
  '-1',
  'null',
];
const oddValues: readonly unknown[] = [
  null,
  -1,
  1e308,
  true,
  [],
  {},
  [[]],
  'x'.repeat(70_000),
  { __proto__: null, toString: 1 },
  '\ud800',
];
const odd = fc.oneof(fc.constantFrom(...oddTexts), fc.string({ unit: 'binary', maxLength: 40 }));

let api: Api;
let key: string;
let runs: { open: string; closed: string; foreign: string };
beforeAll(async () => {
  api = await Api.open({ runsMax: 100_000 });
  const quota = { openRuns: 100_000, callsPerMinute: 1_000_000, cpuMillis: 100_000_000, diskBytes: 2 ** 50 };
  key = api.key({ policies: 'any', quota });
  const closed = await opened();
  await api.ask(key, 'POST', `/v1/runs/${closed}/close`, {});
  runs = { open: await opened(), closed, foreign: (await api.open(api.key({ team: 'blue' }))).id };
});
afterAll(() => api.close());

/** With one call in it. */
async function opened(): Promise<string> {
  const { id } = await api.open(key);
  await api.ask(key, 'PUT', `/v1/runs/${id}/calls/c1`, { tool: 'exec', argv: ['true'] });
  return id;
}

interface Asked {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string | Uint8Array | undefined;
}

/** Of one operation; the run in it is filled in when it is asked. */
function requestsOf(operation: (typeof operations)[number]): fc.Arbitrary<Asked> {
  const { path, parameters = [], requestBody } = operation;
  const places = parameters.filter((one) => one.in === 'path').map((one) => [one.name, inPath(one.name, one.schema)]);
  const asked = parameters.filter((one) => one.in === 'query').map((one) => [one.name, inQuery(one.name, one.schema)]);
  const waits = asked.flatMap(([name]) => (name === 'waitMs' ? [name] : [])); // a stream would wait for a command to begin
  const said = parameters
    .filter((one) => one.in === 'header')
    .map((one) => [one.name.toLowerCase(), inHeader(one.schema)]);
  const record = (entries: unknown[][], requiredKeys: string[] = []): fc.Arbitrary<Record<string, unknown>> =>
    fc.record(Object.fromEntries(entries) as Record<string, fc.Arbitrary<unknown>>, { requiredKeys });
  const all = fc.record(Object.fromEntries(places) as Record<string, fc.Arbitrary<string>>);
  return fc
    .tuple(all, record(asked, waits), record(said), bodiesOf(requestBody))
    .map(([inPlace, query, headers, body]) => {
      const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(safe(inPlace[name] ?? '')));
      const search = new URLSearchParams(
        Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
      );
      const sent = Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [name, headerText(String(value))]),
      );
      return { path: `${filled}?${search.toString()}`, headers: { ...sent, ...body.headers }, body: body.body };
    });
}

function inPath(name: string, schema: Schema): fc.Arbitrary<string> {
  if (name === 'run')
    return fc.oneof({ weight: 8, arbitrary: fc.constantFrom('open', 'closed', 'foreign') }, fc.constant(newId()), odd);
  return fc.oneof({ weight: 3, arbitrary: valueOf(schema).map(String) }, odd);
}

/** Nobody waits for what will not come. */
function inQuery(name: string, schema: Schema): fc.Arbitrary<unknown> {
  if (name === 'waitMs') return fc.oneof(fc.integer({ min: 0, max: 5 }), odd);
  return fc.oneof({ weight: 3, arbitrary: valueOf(schema) }, odd);
}

function inHeader(schema: Schema): fc.Arbitrary<unknown> {
  const accepted = ['*/*', 'text/event-stream', 'application/octet-stream', 'application/x-ndjson', 'x/y;q=;;'];
  return fc.oneof(valueOf(schema), fc.constantFrom(...accepted), odd);
}

interface Body {
  readonly headers: Record<string, string>;
  readonly body: string | Uint8Array | undefined;
}

function bodiesOf(requestBody: Operation['requestBody']): fc.Arbitrary<Body> {
  const [[contentType, { schema = {} }] = ['', {}]] = Object.entries(requestBody?.content ?? {});
  const headers: Record<string, string> = contentType === '' ? {} : { 'content-type': contentType };
  if (contentType === '') return fc.constant({ headers, body: undefined });
  if (contentType !== 'application/json') return fc.uint8Array({ maxLength: 2000 }).map((body) => ({ headers, body }));
  const right = valueOf(schema);
  const wrong = fc
    .tuple(right, fc.nat(), fc.constantFrom(...oddValues))
    .map(([value, at, other]) => changed(value, at, other));
  const text = fc.oneof(
    { weight: 4, arbitrary: fc.oneof(right, wrong).map((value) => JSON.stringify(value) ?? '') },
    odd,
  );
  const types = fc.oneof({ weight: 9, arbitrary: fc.constant(headers) }, fc.constant({ 'content-type': 'text/plain' }));
  return fc.tuple(text, types).map(([body, sent]) => ({ headers: { ...sent }, body }));
}

/** The value with another one somewhere in it. */
function changed(value: unknown, at: number, other: unknown): unknown {
  if (typeof value !== 'object' || value === null) return other;
  const keys = Object.keys(value);
  if (at % 4 === 0 || keys.length === 0)
    return Array.isArray(value) ? [...value, other] : { ...value, HostConfig: other };
  const name = keys[at % keys.length] ?? '';
  const inner = changed((value as Record<string, unknown>)[name], Math.floor(at / 4), other);
  return Array.isArray(value)
    ? value.map((one: unknown, index) => (String(index) === name ? inner : one))
    : { ...value, [name]: inner };
}

/** What a URL can hold at all. */
function safe(text: string): string {
  return Buffer.from(text).toString();
}

/** What a header can hold at all: the rest no client could send. */
function headerText(text: string): string {
  return text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '').trim();
}

describe('whatever is asked of', () => {
  test.each(operations.map((operation) => [operation.operationId, operation] as const))(
    '%s, the answer is what the document says, or a problem of the table',
    async (operationId, operation) => {
      const route = answers.get(operationId);
      await fc.assert(
        fc.asyncProperty(requestsOf(operation), async ({ path, headers, body }) => {
          const at = path.replace(/(?<=\/runs\/)(open|closed|foreign)\b/, (which) => runs[which as keyof typeof runs]);
          const answer = await within(2_000, api.ask(key, operation.method, at, body, headers));
          const asked = `${operation.method} ${at} ${String(body).slice(0, 500)}`;
          if (answer.status >= 400 && route?.reply.refusal !== undefined && isJson(answer)) {
            expect(answer.status, `${asked} ${api.log.at(-1) ?? ''}`).toBeLessThan(500);
            expect(route.reply.refusal.safeParse(await answer.json()).error?.issues, asked).toBeUndefined();
          } else if (answer.status >= 400) {
            expect(answer.headers.get('content-type'), asked).toBe('application/problem+json');
            const { code, status } = (await answer.json()) as { code: string; status: number };
            expect([isErrorCode(code) && errorTable[code].status, status], asked).toEqual([
              answer.status,
              answer.status,
            ]);
            expect(answer.status, `${asked} ${api.log.at(-1) ?? ''}`).toBeLessThan(500);
          } else if (route?.reply.schema !== undefined && isJson(answer)) {
            const parsed = route.reply.schema.safeParse(await within(5_000, answer.json()));
            expect(parsed.error?.issues, asked).toBeUndefined();
          } else await answer.body?.cancel();
          if (operationId === 'closeRun' && answer.status === 200) runs.open = await opened();
        }),
        { numRuns: 40, endOnFailure: true },
      );
    },
  );
});

function isJson(answer: Response): boolean {
  return (answer.headers.get('content-type') ?? '').startsWith('application/json');
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { canonicalJson, digestOf } from '../digest.ts';
import type { Outcome } from '../sandbox/outcome.ts';
import { turnsDuring } from '../../test/fixtures/turns.ts';
import { boundArguments } from './bound-arguments.ts';
import { Entry, entryData, type Draft, type EntryOutcome } from './entry.ts';
import { findingKinds } from './finding.ts';
import { asciiJson, printable } from './printable.ts';
import { renderEntry } from './render.ts';
import {
  attached,
  decided,
  egressEnded,
  fingerprint,
  handedOver,
  linesOf,
  lost,
  opened,
  storyOf,
} from './story.fixture.ts';

const page = readFileSync(new URL('../../docs/journal.md', import.meta.url), 'utf8');

test('every outcome of a call can be recorded', () => {
  const record = (outcome: Outcome): EntryOutcome => outcome;
  expect(record({ kind: 'cancelled' })).toEqual({ kind: 'cancelled' });
});

describe('docs/journal.md', () => {
  test('lists every type of entry with every field, and nothing else', () => {
    const documented: string[] = [];
    for (const [, type = '', body = ''] of page.matchAll(/^### `([\w.]+)`\n((?:\n?(?!#).*)*)/gm)) {
      documented.push(type);
      for (const [, field] of body.matchAll(/^\| `([\w.]+)` \|/gm)) documented.push(`${type}: ${field}`);
    }
    const real: string[] = [];
    for (const [type, schema] of Object.entries(entryData)) {
      real.push(type);
      for (const field of fieldsOf(schema)) real.push(`${type}: ${field}`);
    }
    expect(new Set(documented)).toEqual(new Set(real));
  });

  test('explains every kind of finding, and no other', () => {
    const documented = [...page.matchAll(/^\| `(\w+)` \| line /gm)].map(([, kind]) => kind);
    expect(new Set(documented)).toEqual(new Set(findingKinds));
  });

  function fieldsOf(schema: z.ZodObject, prefix = ''): string[] {
    const names: string[] = [];
    for (const [key, field] of Object.entries(schema.shape)) {
      const inner: unknown = field instanceof z.ZodOptional ? field.unwrap() : field;
      names.push(`${prefix}${key}`);
      if (inner instanceof z.ZodObject) names.push(...fieldsOf(inner, `${prefix}${key}.`));
    }
    return names;
  }
});

describe('arguments in a journal', () => {
  test('that are short stay as they are, under the digest of their canonical form', async () => {
    const call = { tool: 'exec', script: 'make test', env: { A: '1' }, argv: ['a', 'b'], tty: undefined };
    const bounded = await boundArguments(call);
    expect(bounded.arguments).toEqual({ tool: 'exec', script: 'make test', env: { A: '1' }, argv: ['a', 'b'] });
    expect(bounded.argsDigest).toBe(digestOf(canonicalJson(call)));
  });

  test('that are long become digest, size and head', async () => {
    const content = 'x'.repeat(5_000_000);
    const bounded = await boundArguments({ tool: 'write', content, bytes: new Uint8Array([1, 2, 3]) });
    expect(bounded.arguments).toEqual({
      tool: 'write',
      content: { digest: digestOf(content), bytes: 5_000_000, head: 'x'.repeat(120) },
      bytes: { digest: digestOf(new Uint8Array([1, 2, 3])), bytes: 3, head: '\u0001\u0002\u0003' },
    });
  });

  test('that are many bytes are the same as if they had come as base64, whatever is around them', async () => {
    for (const size of [768 * 1024 + 1, 2_500_001]) {
      const bytes = new Uint8Array(size).map((_, n) => n % 251);
      const base64 = Buffer.from(bytes).toString('base64');
      const around = (given: unknown) => ({ z: 'é', tool: 'write', content: { base64: given }, a: [given, 1] });
      const bounded = await boundArguments(around(bytes));
      expect(bounded.argsDigest).toBe(digestOf(canonicalJson(around(base64))));
      expect(bounded.arguments).toMatchObject({
        content: { base64: { digest: digestOf(bytes), bytes: size } },
        tool: 'write',
      });
      const long = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`k${n}`, 'x'.repeat(1000)]));
      const many = { a: bytes, long };
      const { large } = (await boundArguments(many)).arguments;
      const whole = canonicalJson(many);
      expect(large).toMatchObject({ digest: digestOf(whole), bytes: whole.length, head: whole.slice(0, 120) });
    }
  });

  test('that are many bytes leave others their turn', async () => {
    const turns = await turnsDuring(() => boundArguments({ tar: new Uint8Array(24 * 1024 * 1024) }));
    expect(turns).toBeGreaterThan(32);
  });

  test('stay small however many, deep or odd they are', async () => {
    const deep: Record<string, unknown> = {};
    for (let at = deep, n = 0; n < 1000; n++) at = at['x'] = {} as Record<string, unknown>;
    const odd = JSON.parse('{"__proto__":{"polluted":true},"constructor":1}') as Record<string, unknown>;
    const wide = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`k${n}`, 'x'.repeat(1000)]));
    const many = Array.from({ length: 100_000 }, (_, n) => n);
    for (const value of [{ deep }, odd, { wide, wider: wide }, { many }, 'text', null, [1]]) {
      const bounded = await boundArguments(value);
      expect(Buffer.byteLength(JSON.stringify(bounded.arguments))).toBeLessThanOrEqual(33_000);
      expect(z.record(z.string(), z.json()).parse(bounded.arguments)).toEqual(bounded.arguments);
    }
    expect((await boundArguments(odd)).arguments).toEqual({ '[__proto__]': { polluted: true }, constructor: 1 });
  });
});

describe('text from a sandbox', () => {
  const cases: readonly [string, string][] = [
    ['plain text, ünïcode, 漢字 and 🧤', 'plain text, ünïcode, 漢字 and 🧤'],
    ['\u001b[2J\u001b]52;c;aGk=\u0007', '\\x1b[2J\\x1b]52;c;aGk=\\x07'],
    ['a\rb\nc\td', 'a\\rb\\nc\\td'],
    ['\u009b31m\u007f\u0000', '\\x9b31m\\x7f\\x00'],
    ['\u202eevil\u2066\u200b\u2028\ufeff', '\\u202eevil\\u2066\\u200b\\u2028\\ufeff'],
    ['\udc80\u{e0041}', '\\udc80\\u{e0041}'],
  ];
  test.each(cases)('is harmless to show: %j', (text, shown) => {
    expect(printable(text)).toBe(shown);
  });

  test('may keep its line ends, and only those', () => {
    expect(printable('a\r\nb\u001b', { newlines: 'keep' })).toBe('a\\r\nb\\x1b');
  });

  test('is the same value after its JSON was made ASCII', () => {
    for (const [text] of cases) {
      const json = asciiJson(JSON.stringify(text));
      expect(json).toMatch(/^[\x20-\x7e]*$/);
      expect(JSON.parse(json)).toBe(text);
    }
  });
});

describe('an entry on a terminal', () => {
  test('is one harmless line, for every type', () => {
    const counted = { host: '*', reason: 'no profile names it', count: 12 };
    const egress: Draft[] = [
      decided(1),
      egressEnded(1),
      decided(2, 'denied'),
      { type: 'egress.counted', data: counted },
      { type: 'egress.narrowed', data: { without: ['npm', 'docs'] } },
      { type: 'credential.revoked', data: { credential: 'gh', cut: 1 } },
      { type: 'participant.joined', data: { by: 'bob', how: 'fork_source' } },
      handedOver,
      attached(1, { at: 'before_compaction', model: 'strong-2', lane: 'commit' }),
      fingerprint,
    ];
    const lines = linesOf([...storyOf(3, false), lost, ...egress]).map((line) =>
      renderEntry(Entry.parse(JSON.parse(line))),
    );
    expect(lines).toEqual([
      `   1     0.000s  run.opened          run 01hzzzzzzzzzzzzzzzzzzzzzzz, policy test (${digestOf(canonicalJson({ name: 'test', files: { read: ['**'] } })).slice(7, 19)}), image base, runc: make the tests pass`,
      '   2     0.007s  sandbox.started     01hyyyyyyyyyyyyyyyyyyyyyyy, 2 files, 10 B',
      '   3     0.014s  call.intended       c1 #1 exec {"script":"echo"}',
      '   4     0.021s  call.intended       c2 #2 exec {"script":"echo"}',
      '   5     0.029s  call.ended          c1 exited 0 in 1 ms, 3 B of output',
      '   6     0.036s  call.ended          c2 exited 0 in 1 ms, 3 B of output',
      '   7     0.043s  call.intended       c3 #3 exec {"script":"echo"}',
      '   8     0.050s  call.denied         d3 write by files.write: outside the write scope',
      '   9     0.057s  call.ended          c3 exited 0 in 1 ms, 3 B of output',
      '  10     0.064s  sandbox.lost        stream ended (container exited)',
      '  11     0.071s  egress.decided      e1 allowed GET https://registry.test:443/left-pad by npm of call c1',
      '  12     0.078s  egress.ended        e1 done 200 in 31 ms, 90 B sent, 2.0 KiB received, at 192.0.2.7',
      '  13     0.086s  egress.decided      e2 denied GET https://registry.test:443/left-pad by npm of call c1: not on a weekday',
      '  14     0.093s  egress.counted      12 more refused: *: no profile names it',
      '  15     0.100s  egress.narrowed     without npm, docs',
      '  16     0.107s  credential.revoked  gh, 1 requests with it were cut',
      '  17     0.114s  participant.joined  bob (fork_source)',
      '  18     0.121s  lane.handed_over    from quick-1 in lane explore to strong-2 in lane commit',
      '  19     0.128s  context.attached    context 1 (before_compaction) of strong-2 in lane commit: the parser drops the last line; next: fix read()',
      `  20     0.135s  environment.fingerprint at open: ${digestOf('x').slice(7, 19)}, 2 sections`,
    ]);
  });

  test('says of a run whether its egress is only observed', () => {
    const policy = { name: 'test', digest: digestOf('x'), effective: { egress: { mode: 'observe' } } };
    const [line] = linesOf([{ ...opened, data: { ...opened.data, policy } } as typeof opened]);
    expect(renderEntry(Entry.parse(JSON.parse(line ?? '')))).toContain(', runc, egress only observed: make');
  });

  test('cannot move the cursor, whatever the agent wrote', () => {
    const intent = '\u001b[1A\u001b[2Kall is well\r\u202e';
    const [line] = linesOf([{ ...opened, data: { ...opened.data, intent } } as typeof opened]);
    const shown = renderEntry(Entry.parse(JSON.parse(line ?? '')));
    expect(shown).toMatch(/^[\x20-\x7e]*$/);
    expect(shown).toContain('\\x1b[1A\\x1b[2Kall is well\\r\\u202e');
  });
});

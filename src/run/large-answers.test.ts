import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { longestTurn } from '../../test/fixtures/longest-turn.ts';
import { RunDir } from '../data-dir/run-dir.ts';
import { newId } from '../ids.ts';
import { fromBase64, fromText } from '../long-bytes.ts';
import { jsonPieces } from '../long-json.ts';
import { ToolCall } from '../tools/tool-call.ts';
import { viewLong } from '../tools/bytes-view.ts';
import type { BytesView, ToolResult } from '../tools/tool-result.ts';
import { Answers } from './answers.ts';
import { CallRequest } from './call-request.ts';

const fileBytes = 16_777_216;
/** Of processor time. In a row it took 90 to 220 ms to keep such an answer, and about as long to read or to send it. */
const turnMsMax = 50;

const request = new CallRequest(ToolCall.parse({ tool: 'read', path: 'a' }));
let dir: RunDir;

beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-answers-')));
});
afterEach(async () => {
  await rm(dir.path, { recursive: true, force: true });
});

const contents = {
  'bytes that are no text': () => randomBytes(fileBytes),
  text: () => Buffer.alloc(fileBytes, 'hällo "wörld"\n'),
};

test.each(Object.entries(contents))('nobody waits for 16 MiB of %s that are an answer', async (_, make) => {
  const bytes = make();
  const answers = Answers.create(dir.answers);
  let view: BytesView | undefined;
  const made = await longestTurn(async () => {
    view = await viewLong(bytes);
  });
  const result = answerWith(view);
  const kept = await longestTurn(() => answers.once('a', request, async () => result));
  let sentBytes = 0;
  const sent = await longestTurn(async () => {
    for (const piece of jsonPieces(result)) {
      sentBytes += piece.length;
      await setImmediate();
    }
  });
  let again: ToolResult | undefined;
  const found = await longestTurn(async () => {
    again = await answers.find('a');
  });
  const exact = await longestTurn(async () => {
    const { text = '', base64 = null } = view ?? {};
    expect((base64 === null ? await fromText(text) : await fromBase64(base64)).equals(bytes)).toBe(true);
  });
  expect(sentBytes).toBeGreaterThan(fileBytes);
  expect(again?.text === result.text).toBe(true);
  expect(contentOf(again) === contentOf(result), 'the same content comes back').toBe(true);
  for (const [what, { cpuMs }] of Object.entries({ made, kept, sent, found, exact }))
    expect(cpuMs, what).toBeLessThan(turnMsMax);
  await answers.close();
});

function answerWith(view: BytesView | undefined): ToolResult {
  if (view === undefined) throw new Error('there is no view');
  const entry = {
    path: 'f',
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeMs: 0,
    target: null,
    digest: null,
  } as const;
  const data = {
    kind: 'content',
    entry: { ...entry, sizeBytes: fileBytes },
    content: view,
    offset: 0,
    firstLine: null,
    lastLine: null,
    truncated: false,
  } as const;
  return { callId: 'a', tool: 'read', ok: true, text: view.text, data, error: null };
}

function contentOf(result: ToolResult | undefined): string | undefined {
  return result?.data?.kind === 'content' ? (result.data.content.base64 ?? result.data.content.text) : undefined;
}

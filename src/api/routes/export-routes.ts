import { open } from 'node:fs/promises';
import { z } from 'zod';
import { RunId, queryNumber } from '../../contract/fields.ts';
import { RunState } from '../../control/controlled.ts';
import { RunnerError } from '../../errors.ts';
import { formatEntry } from '../../journal/chain.ts';
import { lineBytesMax, type Entry } from '../../journal/entry.ts';
import { followEntries, readEntries } from '../../journal/read.ts';
import { eventStream, pulledStream, type Sent } from '../event-stream.ts';
import { json, route, type Asked, type Reply, type Route } from '../route.ts';

const params = { run: RunId };
const pieceBytes = 65_536;
const JournalQuery = z.strictObject({
  after: queryNumber(0, Number.MAX_SAFE_INTEGER).optional().describe('Entries after this one; default all.'),
});
type OfJournal = Omit<Asked<{ readonly run: string }, z.infer<typeof JournalQuery>>, 'body'>;

export const exportRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/runs/{run}/diff',
    operation: 'getDiff',
    tag: 'exports',
    summary: 'What the run has changed, what was refused and what is held back. Of an open run no command may run.',
    scope: 'read',
    params,
    reply: { description: 'As in `diff.json`.', schema: z.record(z.string(), z.unknown()) },
    handle: async ({ service, principal, params: { run } }) => json(await service.exports.diff(principal, run)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/patch',
    operation: 'getPatch',
    tag: 'exports',
    summary: 'The same for `git apply`.',
    scope: 'read',
    params,
    reply: { description: 'A patch in the form of git, binary files included.', also: ['text/x-diff'] },
    handle: async ({ service, principal, params: { run } }) => ({
      kind: 'bytes',
      contentType: 'text/x-diff',
      bytes: await service.exports.patch(principal, run),
    }),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/verification',
    operation: 'getVerification',
    tag: 'exports',
    summary: 'What the gates found of what the run proposes, with its digest: the newest, which is the one that holds.',
    scope: 'read',
    params,
    reply: { description: 'As in verify.md.', schema: z.record(z.string(), z.unknown()) },
    handle: async ({ service, principal, params: { run } }) => json(await service.verifications.newest(principal, run)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/fingerprint',
    operation: 'getFingerprint',
    tag: 'exports',
    summary: 'What the environment of an open run is, which is put on record; of a closed one what it last was.',
    scope: 'read',
    params,
    reply: { description: 'As in drift.md.', schema: z.record(z.string(), z.unknown()) },
    handle: async ({ service, principal, params: { run } }) => json(await service.exports.fingerprint(principal, run)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/bundle',
    operation: 'getBundle',
    tag: 'exports',
    summary: 'All that a closed run has left, with what its commands have printed, as one signed file: see bundle.md.',
    scope: 'read',
    params,
    lasting: true,
    reply: { description: 'A tar, which `glovebox check` verifies.', also: ['application/x-tar'] },
    handle: async (asked) => {
      const chunks = (await asked.service.proposals.bundle(asked.principal, asked.params.run)).chunks();
      const next = async (): Promise<Uint8Array | undefined> => (await chunks.next()).value ?? undefined;
      const onEnd = (): void => {
        void chunks.return();
        asked.onEnd();
      };
      return { kind: 'stream', contentType: 'application/x-tar', body: pulledStream(next, { ...asked, onEnd }) };
    },
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/journal',
    operation: 'readJournal',
    tag: 'exports',
    summary: 'The entries of the journal: those that are there, or as server-sent events (id: seq) also those to come.',
    scope: 'read',
    params,
    query: JournalQuery,
    headers: {
      Accept: 'application/x-ndjson or text/event-stream.',
      'Last-Event-ID': 'Seq of the last entry that arrived.',
    },
    lasting: true,
    reply: { description: 'One entry a line.', also: ['application/x-ndjson', 'text/event-stream'] },
    handle: (asked) => {
      const path = asked.service.exports.journal(asked.principal, asked.params.run);
      const after = afterOf(asked);
      return (asked.header('accept') ?? '').includes('text/event-stream')
        ? followed(asked, path, after)
        : after === 0
          ? whole(asked, path)
          : lines(asked, path, after);
    },
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/egress',
    operation: 'getEgress',
    tag: 'egress',
    summary: 'Which rules and credentials an open run still has.',
    scope: 'read',
    params,
    reply: { description: 'How it stands.', schema: RunState },
    handle: ({ service, principal, params: { run } }) => json(service.find(principal, run, 'read').run.reach()),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/egress/narrow',
    operation: 'narrowEgress',
    tag: 'egress',
    summary: 'Takes profiles, rules or upstreams away for the rest of the run, and cuts what they had let through.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: z.strictObject({ without: z.array(z.string().min(1).max(200)).min(1).max(256) }) },
    reply: { description: 'How it stands now.', schema: RunState },
    handle: async ({ service, principal, params: { run }, body }) =>
      json(await service.narrowEgress(principal, run, body.without)),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/credentials/{name}/revoke',
    operation: 'revokeCredential',
    tag: 'egress',
    summary: 'Nothing is sent with this credential any more, and what carries it is cut.',
    scope: 'call',
    params: { ...params, name: z.string().min(1).max(200) },
    reply: { description: 'How it stands now.', schema: RunState },
    handle: async ({ service, principal, params: { run, name } }) =>
      json(await service.revokeCredential(principal, run, name)),
  }),
];

function afterOf({ query, header }: OfJournal): number {
  const last = header('last-event-id');
  if (last === undefined) return query.after ?? 0;
  if (/^\d{1,15}$/.test(last)) return Number(last);
  throw new RunnerError('invalid_request', 'Last-Event-ID of a journal is a seq');
}

/** As it is, so that one that was changed can be looked at too: its whole lines. */
async function whole(asked: OfJournal, path: string): Promise<Reply> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw new RunnerError('not_found', `run ${asked.params.run} has no journal yet`, { cause });
  });
  let [at, held] = [0, Buffer.alloc(0)];
  const next = async (): Promise<Uint8Array | undefined> => {
    for (;;) {
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(pieceBytes), 0, pieceBytes, at);
      if (bytesRead === 0) return undefined;
      at += bytesRead;
      held = Buffer.concat([held, buffer.subarray(0, bytesRead)]);
      const end = held.lastIndexOf(0x0a) + 1;
      if (end === 0 && held.length <= lineBytesMax) continue;
      const piece = held.subarray(0, end === 0 ? held.length : end);
      held = held.subarray(piece.length);
      return piece;
    }
  };
  const onEnd = (): void => {
    void file.close();
    asked.onEnd();
  };
  return { kind: 'stream', contentType: 'application/x-ndjson', body: pulledStream(next, { ...asked, onEnd }) };
}

function lines(asked: OfJournal, path: string, after: number): Reply {
  const entries = readEntries(path, { fromSeq: after + 1 });
  const next = async (): Promise<Uint8Array | undefined> => {
    const { done, value } = await entries.next();
    return done === true ? undefined : Buffer.from(`${formatEntry(value)}\n`);
  };
  const onEnd = (): void => {
    void entries.return();
    asked.onEnd();
  };
  return { kind: 'stream', contentType: 'application/x-ndjson', body: pulledStream(next, { ...asked, onEnd }) };
}

/** Ends with the run. */
function followed(asked: OfJournal, path: string, after: number): Reply {
  const leaving = new AbortController();
  const entries = followEntries(path, { fromSeq: after + 1, signal: leaving.signal });
  let coming: Promise<IteratorResult<Entry, void>> | undefined;
  const next = async (waitMs: number): Promise<readonly Sent[] | null | undefined> => {
    coming ??= entries.next();
    const got = await orNull(coming, waitMs);
    if (got === null) return null;
    coming = undefined;
    if (got.done === true) return undefined;
    const entry = got.value;
    return [{ id: `${entry.seq}`, event: entry.type, data: JSON.stringify(entry) }];
  };
  const onEnd = (): void => {
    leaving.abort();
    asked.onEnd();
  };
  return { kind: 'stream', contentType: 'text/event-stream', body: eventStream(next, { ...asked, onEnd }) };
}

async function orNull<T>(work: Promise<T>, waitMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), waitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

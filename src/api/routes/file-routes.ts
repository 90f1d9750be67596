import { z } from 'zod';
import { RunId, queryNumber } from '../../contract/fields.ts';
import { DigestText } from '../../contract/fields.ts';
import { RunnerError } from '../../errors.ts';
import { digestOfLong, fromBase64, fromText } from '../../long-bytes.ts';
import type { ToolCallInput } from '../../tools/tool-call.ts';
import { ToolResult, type BytesView, type ToolData } from '../../tools/tool-result.ts';
import { ToolProblem } from '../problem.ts';
import { json, route, type Asked, type Route } from '../route.ts';
import { ownCallId } from './call-routes.ts';

const tag = 'files';
const PathParam = z.string().min(1).max(4096).describe('Relative to the workspace; `%2Fetc%2Fhosts` is absolute.');
const params = { run: RunId, path: PathParam };
const fileBytesMax = 32 * 1024 * 1024;
const archiveBytesMax = 96 * 1024 * 1024;
const callHeader = { 'Idempotency-Key': 'Id of the tool call that this is; default a new one.' };

export const fileRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/runs/{run}/files/{path+}',
    operation: 'readFile',
    tag,
    summary: 'The bytes of a file: the read tool, with its policy, budget and record.',
    scope: 'call',
    params,
    query: z.strictObject({
      offset: queryNumber(0, Number.MAX_SAFE_INTEGER).optional().describe('First byte; default 0.'),
      bytes: queryNumber(0, fileBytesMax).optional().describe('How many; default all.'),
    }),
    headers: callHeader,
    reply: { description: 'The bytes; ETag is the digest of a whole file.', also: ['application/octet-stream'] },
    handle: async (asked) => {
      const { offset = 0, bytes } = asked.query;
      const range = { offset, ...(bytes === undefined ? {} : { bytes }) };
      const data = await done(asked, { tool: 'read', path: asked.params.path, range, maxBytes: fileBytesMax });
      if (data.kind !== 'content') throw unexpected(data);
      if (data.truncated)
        throw new RunnerError(
          'limit_exceeded',
          `the file is longer than ${fileBytesMax} bytes; read it in parts, with offset and bytes`,
        );
      const content = await exactBytes(data.content);
      const whole = offset === 0 && content.length === data.entry.sizeBytes;
      const headers = {
        'x-glovebox-file-bytes': `${data.entry.sizeBytes}`,
        ...(whole ? { etag: `"${await digestOfLong(content)}"` } : {}),
      };
      return { kind: 'bytes', contentType: 'application/octet-stream', bytes: content, headers };
    },
  }),
  route({
    method: 'PUT',
    path: '/v1/runs/{run}/files/{path+}',
    operation: 'writeFile',
    tag,
    summary: 'Writes a whole file at once: the write tool, with its policy, budget and record.',
    scope: 'call',
    params,
    query: z.strictObject({
      mode: z
        .string()
        .regex(/^0?[0-7]{3}$/)
        .optional()
        .describe('Permission bits, in octal.'),
    }),
    headers: { ...callHeader, 'If-Match': 'Only if the file has this digest now, else `conflict`.' },
    body: { kind: 'bytes', contentType: 'application/octet-stream', maxBytes: fileBytesMax },
    reply: { description: 'Done.', schema: ToolResult },
    handle: async (asked) => {
      const {
        body,
        params: { path },
        query: { mode },
      } = asked;
      const ifMatch = asked.header('if-match')?.replaceAll('"', '');
      const digest = ifMatch === undefined ? undefined : DigestText.safeParse(ifMatch);
      if (digest?.success === false)
        throw new RunnerError('invalid_request', 'If-Match is a digest, sha256: and 64 hex digits');
      const call: ToolCallInput = {
        tool: 'write',
        path,
        content: { base64: body },
        ...(mode === undefined ? {} : { mode: Number.parseInt(mode, 8) }),
        ...(digest === undefined ? {} : { ifMatch: digest.data }),
      };
      return json(await asResult(asked, call));
    },
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/archive/{path+}',
    operation: 'readArchive',
    tag,
    summary: 'A file or directory as a tar archive: the download tool.',
    scope: 'call',
    params,
    headers: callHeader,
    reply: { description: 'The archive.', also: ['application/x-tar'] },
    handle: async (asked) => {
      const data = await done(asked, { tool: 'download', path: asked.params.path, maxBytes: archiveBytesMax });
      if (data.kind !== 'archive') throw unexpected(data);
      return { kind: 'bytes', contentType: 'application/x-tar', bytes: await fromBase64(data.base64) };
    },
  }),
  route({
    method: 'PUT',
    path: '/v1/runs/{run}/archive/{path+}',
    operation: 'writeArchive',
    tag,
    summary:
      'Unpacks a tar archive into a directory: the upload tool. All of it is checked before anything is written.',
    scope: 'call',
    params,
    headers: callHeader,
    body: { kind: 'bytes', contentType: 'application/x-tar', maxBytes: archiveBytesMax },
    reply: { description: 'Done.', schema: ToolResult },
    handle: async (asked) => json(await asResult(asked, { tool: 'upload', path: asked.params.path, tar: asked.body })),
  }),
];

type OfFile = Pick<
  Asked<{ readonly run: string; readonly path: string }>,
  'service' | 'principal' | 'params' | 'header'
>;

/** Throws the tool's refusal as a problem. */
async function asResult(
  { service, principal, params: { run }, header }: OfFile,
  call: ToolCallInput,
): Promise<ToolResult> {
  const result = await service.calls.make(principal, run, ownCallId(header), call);
  if (result.error !== null) throw new ToolProblem(result.error);
  return result;
}

async function done(asked: OfFile, call: ToolCallInput): Promise<ToolData> {
  const { data } = await asResult(asked, call);
  if (data === null) throw new RunnerError('internal', `the tool ${call.tool} gave neither data nor an error`);
  return data;
}

function exactBytes({ text, base64 }: BytesView): Promise<Buffer> {
  return base64 === null ? fromText(text) : fromBase64(base64);
}

function unexpected({ kind }: ToolData): RunnerError {
  return new RunnerError('conflict', `the id was used for another call, whose answer is of kind ${kind}`);
}

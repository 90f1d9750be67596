import { z } from 'zod';

/**
 * What a Codex CLI says to a remote environment: one JSON object a line, requests with `id`, no `jsonrpc` field. As version 0.169
 * speaks it; fields that are not named here are its own affair and are dropped.
 */

/** Where its own isolation is described. Ours holds instead, whatever is in there; the journal keeps what was said. */
const untrusted = z.unknown().optional();

const processId = z.string().min(1).max(64);
const path = z.string().min(1).max(16_384);
const base64 = z.base64();

export const InitializeParams = z.object({
  clientName: z.string().max(256),
  resumeSessionId: z.string().max(64).nullish(),
});

export const StartParams = z.object({
  processId,
  argv: z.tuple([z.string().min(1)], z.string()),
  cwd: path,
  env: z.record(z.string(), z.string()).default({}),
  tty: z.boolean().default(false),
  pipeStdin: z.boolean().default(false),
  metadata: untrusted,
  arg0: untrusted,
  envPolicy: untrusted,
  sandbox: untrusted,
  enforceManagedNetwork: untrusted,
  managedNetwork: untrusted,
});
export type StartParams = z.infer<typeof StartParams>;

export const ReadParams = z.object({
  processId,
  afterSeq: z.int().nonnegative().nullish(),
  maxBytes: z.int().nonnegative().nullish(),
  waitMs: z.int().nonnegative().nullish(),
});
export type ReadParams = z.infer<typeof ReadParams>;

export const WriteParams = z.object({ processId, chunk: base64, writeId: z.string().max(128).nullish() });
export type WriteParams = z.infer<typeof WriteParams>;

export const SignalParams = z.object({ processId, signal: z.enum(['interrupt']) });

export const ProcessParams = z.object({ processId });

export const PathParams = z.object({ path, sandbox: untrusted });
export const WriteFileParams = z.object({ path, dataBase64: base64, sandbox: untrusted });
export const CreateDirectoryParams = z.object({ path, recursive: z.boolean().nullish(), sandbox: untrusted });
export const RemoveParams = z.object({
  path,
  recursive: z.boolean().nullish(),
  force: z.boolean().nullish(),
  sandbox: untrusted,
});
export const CopyParams = z.object({
  sourcePath: path,
  destinationPath: path,
  recursive: z.boolean().default(false),
  sandbox: untrusted,
});
const handleId = z.string().min(1).max(32);
export const OpenParams = z.object({ handleId, path, sandbox: untrusted });
export const ReadBlockParams = z.object({
  handleId,
  offset: z.int().nonnegative(),
  len: z.int().min(1).max(8_388_608),
});
export const CloseParams = z.object({ handleId });

/** A message from the client. */
export const Message = z.object({
  id: z.union([z.string().max(128), z.int()]).optional(),
  method: z.string().max(128),
  params: z.unknown().optional(),
});

/** What a request is refused with; `code` is JSON-RPC's, or -32004 for what is not there. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export const notFoundCode = -32_004;

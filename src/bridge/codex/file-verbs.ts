import { newId } from '../../ids.ts';
import type { DelegatedRun } from '../../run/delegated-run.ts';
import { rpcCodes } from '../../stdio/in-flight.ts';
import type { ToolCallInput } from '../../tools/tool-call.ts';
import type { BytesView, EntryData, ToolData, ToolErrorCode } from '../../tools/tool-result.ts';
import * as protocol from './protocol.ts';
import type { Paths } from './paths.ts';

type Verb = (params: unknown) => Promise<Record<string, unknown>>;

const readBytesMax = 33_554_432;
const handlesMax = 64;
const claimsMax = 2_000;

/** The client's file requests, each one call of the run or two: policy, budget and journal see them like any other. */
export class FileVerbs {
  readonly #run: DelegatedRun;
  readonly #paths: Paths;
  /** Files that were opened for reading in blocks, by the client's own handle. */
  readonly #handles = new Map<string, string>();

  constructor(run: DelegatedRun, paths: Paths) {
    this.#run = run;
    this.#paths = paths;
  }

  find(method: string): Verb | undefined {
    return Object.hasOwn(this.#verbs, method) ? this.#verbs[method] : undefined;
  }

  readonly #verbs: Readonly<Record<string, Verb>> = {
    'fs/readFile': async (params) => {
      const { path, sandbox } = protocol.PathParams.parse(params);
      const read = { tool: 'read', path: this.#paths.inside(path), maxBytes: readBytesMax } as const;
      const data = await this.#call('content', read, sandbox);
      if (data.truncated)
        throw new protocol.RpcError(
          rpcCodes.internal,
          `${path} has ${data.entry.sizeBytes} bytes, more than the ${readBytesMax} of a reply; read it in blocks`,
        );
      return { dataBase64: base64Of(data.content) };
    },
    'fs/writeFile': async (params) => {
      const { path, dataBase64, sandbox } = protocol.WriteFileParams.parse(params);
      const content = { base64: dataBase64 };
      await this.#call('any', { tool: 'write', path: this.#paths.inside(path), content, parents: false }, sandbox);
      return {};
    },
    'fs/createDirectory': async (params) => {
      const { path, recursive, sandbox } = protocol.CreateDirectoryParams.parse(params);
      await this.#call('any', { tool: 'mkdir', path: this.#paths.inside(path), parents: recursive ?? true }, sandbox);
      return {};
    },
    'fs/getMetadata': async (params) => {
      const { path, sandbox } = protocol.PathParams.parse(params);
      const inside = this.#paths.inside(path);
      if (this.#paths.isAbove(path) || looksForRepository(inside))
        throw new protocol.RpcError(protocol.notFoundCode, `${path} is not in the sandbox`);
      const own = await this.#call('entry', { tool: 'stat', path: inside, follow: false }, sandbox);
      const isSymlink = own.entry.type === 'symlink';
      const { entry } = isSymlink ? await this.#call('entry', { tool: 'stat', path: inside }, sandbox) : own;
      return metadataOf(entry, isSymlink);
    },
    'fs/readDirectory': async (params) => {
      const { path, sandbox } = protocol.PathParams.parse(params);
      const list = { tool: 'list', path: this.#paths.inside(path), all: true, maxEntries: 100_000 } as const;
      const { entries } = await this.#call('entries', list, sandbox);
      return {
        entries: entries.map((entry) => ({
          fileName: entry.path.slice(entry.path.lastIndexOf('/') + 1),
          isDirectory: entry.type === 'directory',
          isFile: entry.type === 'file',
        })),
      };
    },
    'fs/remove': async (params) => {
      const { path, recursive, force, sandbox } = protocol.RemoveParams.parse(params);
      const remove = { tool: 'remove', path: this.#paths.inside(path), recursive: recursive ?? true } as const;
      try {
        await this.#call('any', remove, sandbox);
      } catch (error) {
        const missing = error instanceof protocol.RpcError && error.code === protocol.notFoundCode;
        if (!missing || force === false) throw error;
      }
      return {};
    },
    'fs/copy': async (params) => {
      const { sourcePath, destinationPath, recursive, sandbox } = protocol.CopyParams.parse(params);
      const [from, to] = [this.#paths.inside(sourcePath), this.#paths.inside(destinationPath)];
      await this.#command(['cp', recursive ? '-RPpT' : '-PpT', '--', from, to], sandbox);
      return {};
    },
    'fs/canonicalize': async (params) => {
      const { path, sandbox } = protocol.PathParams.parse(params);
      const real = await this.#command(['realpath', '-e', '-z', '--', this.#paths.inside(path)], sandbox);
      return { path: this.#paths.outside(real.split('\0')[0] ?? '', path) };
    },
    'fs/open': async (params) => {
      const { handleId, path, sandbox } = protocol.OpenParams.parse(params);
      if (this.#handles.has(handleId)) throw new protocol.RpcError(rpcCodes.invalid, `the handle ${handleId} is open`);
      if (this.#handles.size >= handlesMax)
        throw new protocol.RpcError(rpcCodes.invalid, `${handlesMax} files are open; close one, then try again`);
      const inside = this.#paths.inside(path);
      this.#handles.set(handleId, inside);
      try {
        const { entry } = await this.#call('entry', { tool: 'stat', path: inside }, sandbox);
        if (entry.type !== 'file') throw new protocol.RpcError(rpcCodes.invalid, `${path} is no file`);
      } catch (error) {
        this.#handles.delete(handleId);
        throw error;
      }
      return { handleId };
    },
    'fs/readBlock': async (params) => {
      const { handleId, offset, len } = protocol.ReadBlockParams.parse(params);
      const path = this.#handles.get(handleId);
      if (path === undefined) throw new protocol.RpcError(protocol.notFoundCode, `no file is open as ${handleId}`);
      const read = { tool: 'read', path, range: { offset, bytes: len }, maxBytes: len } as const;
      const { content, entry } = await this.#call('content', read, undefined);
      return { chunk: base64Of(content), eof: offset + content.bytes >= entry.sizeBytes };
    },
    'fs/close': async (params) => {
      this.#handles.delete(protocol.CloseParams.parse(params).handleId);
      return {};
    },
  };

  async #call<Kind extends ToolData['kind'] | 'any'>(
    kind: Kind,
    input: ToolCallInput,
    sandbox: unknown,
  ): Promise<Extract<ToolData, { kind: Kind }>> {
    const said =
      sandbox === undefined || sandbox === null ? undefined : JSON.stringify({ sandbox }).slice(0, claimsMax);
    const { data, error, text } = await this.#run.call(newId(), input, said);
    if (error !== null) throw new protocol.RpcError(codeOf(error.code), text);
    if (kind !== 'any' && data?.kind !== kind)
      throw new protocol.RpcError(rpcCodes.internal, `unexpected answer: ${text}`);
    return data as Extract<ToolData, { kind: Kind }>;
  }

  /** What it printed. */
  async #command(argv: [string, ...string[]], sandbox: unknown): Promise<string> {
    const exec = { tool: 'exec', argv, streams: 'split', yieldMs: 60_000, killAfterMs: 60_000 } as const;
    const { exitCode, stdout, stderr } = await this.#call('exec', exec, sandbox);
    if (exitCode === 0) return stdout?.text ?? '';
    const said = stderr?.text.trim() ?? '';
    const missing = said.endsWith('No such file or directory');
    throw new protocol.RpcError(missing ? protocol.notFoundCode : rpcCodes.internal, said);
  }
}

/**
 * In each turn the client itself, not its model, looks whether this is a repository. There is none that it may see, and it shall not
 * cost the run its budget of denials to be told so.
 */
function looksForRepository(path: string): boolean {
  return path.endsWith('/.git');
}

function metadataOf(entry: EntryData, isSymlink: boolean): Record<string, unknown> {
  return {
    isDirectory: entry.type === 'directory',
    isFile: entry.type === 'file',
    isSymlink,
    size: entry.sizeBytes,
    createdAtMs: 0,
    modifiedAtMs: Math.round(entry.mtimeMs),
  };
}

function base64Of(content: BytesView): string {
  return content.base64 ?? Buffer.from(content.text, 'utf8').toString('base64');
}

/** What the client can act on; a denial is an invalid request, whose words it shows to its model. */
function codeOf(code: ToolErrorCode): number {
  switch (code) {
    case 'not_found':
    case 'not_directory':
      return protocol.notFoundCode;
    case 'io':
    case 'no_space':
    case 'too_large':
      return rpcCodes.internal;
    default:
      return rpcCodes.invalid;
  }
}

import type { Digest } from '../digest.ts';
import type { Outcome } from './outcome.ts';

/** What a caller asks to be executed. Everything is optional but the command itself. */
export interface ExecSpec {
  readonly command: Command;
  /** Absolute, or relative to the workspace. Default: the workspace. */
  readonly cwd?: string;
  /** On top of the clean default environment (`environment.ts`). */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: `{ kind: 'null' }`, which reads as an empty file. */
  readonly stdin?: StdinSpec;
  /** A terminal of this size instead of pipes. */
  readonly tty?: { readonly columns: number; readonly rows: number };
  /** The call is ended, with its whole tree, after this long. Default 120,000. */
  readonly killAfterMs?: number;
  /** ... or after this long without output. Default: never. */
  readonly idleMs?: number;
  /** Between TERM and KILL. Default 2,000. */
  readonly graceMs?: number;
  /** Longest wait for output after the command itself has ended. Default 250. */
  readonly drainMs?: number;
  /** Processes that outlive the command: `reap` (default) kills them, `keep` lets them run until the sandbox ends. */
  readonly descendants?: 'reap' | 'keep';
  /** The call is ended with `output_limit` once it has written this much. Default: the sandbox's quota. */
  readonly outputMaxBytes?: number;
  readonly umask?: number;
  /** Opens fd 3 as a third output, kept apart from what the command prints. */
  readonly aux?: boolean;
}

export type Command =
  | { readonly kind: 'argv'; readonly argv: readonly [string, ...string[]] }
  /** Any size: it travels in a memfd, never as an argument. `shell` is run with the script's path as its argument. */
  | { readonly kind: 'script'; readonly script: Uint8Array | string; readonly shell?: readonly [string, ...string[]] };

export type StdinSpec =
  | { readonly kind: 'null' }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'open' };

/** How a call ended and what it cost; the same keys whatever happened. */
export interface CallEnd {
  readonly outcome: Outcome;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
  /** Processes of the call that were still alive when its command had ended. */
  readonly descendantsAlive: number;
  readonly killed: number;
  readonly output: OutputTotals;
}

export interface OutputTotals {
  /** All streams together: also the offset one past the last byte of the merged view. */
  readonly totalBytes: number;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
}

export interface FileEntry {
  /** Bytes that are not UTF-8 are escaped as lone surrogates (`bytes-path.ts`). */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'device';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly inode: bigint;
  readonly target?: string;
  readonly digest?: Digest;
}

export interface WalkOptions {
  readonly contents?: boolean;
  readonly digests?: boolean;
  readonly shallow?: boolean;
  readonly includeRoot?: boolean;
  /** Names of directories that are not entered, such as `.git`. */
  readonly prune?: readonly string[];
  readonly depthMax?: number;
  readonly entriesMax?: number;
  readonly contentBytesMax?: number;
  readonly fileBytesMax?: number;
}

export type WalkItem =
  | { readonly kind: 'entry'; readonly entry: FileEntry; readonly content?: Uint8Array }
  | { readonly kind: 'unreadable'; readonly path: string; readonly code: FileErrorCode }
  | { readonly kind: 'end'; readonly truncated: boolean };

export interface UnpackItem {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'remove';
  readonly mode: number;
  /** Default `tool`. Only what the runner imports is ever owned by root. */
  readonly owner?: 'root' | 'tool';
  readonly target?: string;
  readonly content?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Size of `content`; needed when it is an iterable. */
  readonly sizeBytes?: number;
}

/** Raw file access as the tools' user, inside the sandbox. Paths are absolute or relative to the workspace. */
export interface Files {
  stat(path: string, options?: { follow?: boolean; digest?: boolean }): Promise<FileEntry>;
  /** The whole file or a byte range. `limit_exceeded`-like `too_large` past `maxBytes` (default 64 MiB). */
  read(
    path: string,
    options?: { offset?: number; lengthBytes?: number; maxBytes?: number },
  ): Promise<{ entry: FileEntry; bytes: Buffer }>;
  write(path: string, bytes: Uint8Array, options?: WriteOptions): Promise<FileEntry>;
  walk(paths: readonly string[], options?: WalkOptions): AsyncIterable<WalkItem>;
  mkdir(path: string, options?: { mode?: number; parents?: boolean }): Promise<void>;
  move(from: string, to: string, options?: { replace?: boolean }): Promise<void>;
  remove(path: string, options?: { recursive?: boolean }): Promise<void>;
  unpack(
    root: string,
    items: Iterable<UnpackItem> | AsyncIterable<UnpackItem>,
    options?: { owners?: boolean },
  ): Promise<void>;
}

export interface WriteOptions {
  readonly mode?: number;
  readonly create?: 'only' | 'never';
  readonly parents?: boolean;
  /** The file must have this content now, or nothing is written (`conflict`). */
  readonly ifMatch?: Digest;
}

export type FileErrorCode =
  | 'not_found'
  | 'permission_denied'
  | 'is_directory'
  | 'not_directory'
  | 'exists'
  | 'not_empty'
  | 'too_large'
  | 'read_only'
  | 'no_space'
  | 'conflict'
  | 'invalid_path'
  | 'not_regular'
  | 'too_many_links'
  | 'io';

/** A file verb's own failure: an answer for the agent, not a fault of the runner. */
export class FileError extends Error {
  override readonly name = 'FileError';
  readonly code: FileErrorCode;
  readonly path: string;
  constructor(code: FileErrorCode, path: string, message: string) {
    super(message);
    this.code = code;
    this.path = path;
  }
}

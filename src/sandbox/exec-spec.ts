import { posix } from 'node:path';
import { encodePath } from '../bytes-path.ts';
import { RunnerError } from '../errors.ts';
import { callEnvironment, workspace } from './environment.ts';
import type { ExecSpec } from './spec.ts';
import { payloadMax, specMax, tags } from './wire.ts';

/** What of an exec the runner must still know when it has been started again. */
export interface CallTerms {
  readonly command: string;
  readonly cwd: string;
  readonly killAfterMs: number;
  readonly idleMs: number;
  readonly graceMs: number;
  readonly drainMs: number;
  readonly descendants: 'reap' | 'keep';
  readonly stdin: 'null' | 'bytes' | 'open';
  readonly tty: boolean;
  readonly aux: boolean;
  readonly outputMaxBytes: number;
}

const defaults = { killAfterMs: 120_000, graceMs: 2_000, drainMs: 250 } as const;

const durationMax = 2_147_483_647;

export function callTerms(spec: ExecSpec, outputMaxBytes: number): CallTerms {
  const tty = spec.tty !== undefined;
  return {
    command: nameOf(spec),
    cwd: posix.resolve(workspace, spec.cwd ?? '.'),
    killAfterMs: integer('killAfterMs', spec.killAfterMs ?? defaults.killAfterMs, durationMax),
    idleMs: integer('idleMs', spec.idleMs ?? 0, durationMax),
    graceMs: integer('graceMs', spec.graceMs ?? defaults.graceMs, durationMax),
    drainMs: integer('drainMs', spec.drainMs ?? defaults.drainMs, durationMax),
    descendants: spec.descendants ?? 'reap',
    stdin: tty ? 'open' : (spec.stdin?.kind ?? 'null'),
    tty,
    aux: spec.aux ?? false,
    outputMaxBytes: integer('outputMaxBytes', spec.outputMaxBytes ?? outputMaxBytes, Number.MAX_SAFE_INTEGER),
  };
}

/** The pieces of a SPAWN for this exec. */
export function encodeExec(spec: ExecSpec, terms: CallTerms): Buffer[] {
  const out = new SpecEncoder();
  const { command } = spec;
  const argv = command.kind === 'argv' ? command.argv : [...(command.shell ?? ['/bin/sh']), '/dev/fd/9'];
  if (argv.length === 0 || argv[0] === '')
    throw new RunnerError('invalid_request', 'a command needs the name of a program');
  for (const arg of argv) out.text(tags.argv, arg, 'an argument');
  if (isEmpty(spec.env) && spec.tty === undefined) out.section(quietEnvironment);
  else encodeEnvironment(out, spec);
  out.text(tags.cwd, terms.cwd, 'the working directory');
  if (command.kind === 'script') out.bytes(tags.script, Buffer.from(command.script));
  out.u32(tags.killAfterMs, terms.killAfterMs);
  out.u32(tags.idleMs, terms.idleMs);
  out.u32(tags.graceMs, terms.graceMs);
  out.u32(tags.drainMs, terms.drainMs);
  out.u8(tags.descendants, terms.descendants === 'keep' ? 1 : 0);
  if (spec.tty === undefined) out.u8(tags.stdin, terms.stdin === 'null' ? 0 : 1);
  else {
    const size = Buffer.alloc(4);
    size.writeUInt16LE(integer('tty.columns', spec.tty.columns, 65_535), 0);
    size.writeUInt16LE(integer('tty.rows', spec.tty.rows, 65_535), 2);
    out.bytes(tags.tty, size);
  }
  if (terms.aux) out.u8(tags.aux, 1);
  if (spec.umask !== undefined) out.u32(tags.umask, integer('umask', spec.umask, 0o777));
  return out.pieces();
}

function isEmpty(env: ExecSpec['env'] = {}): boolean {
  return Object.keys(env).length === 0;
}

function encodeEnvironment(out: SpecEncoder, spec: Pick<ExecSpec, 'env' | 'tty'>): SpecEncoder {
  for (const variable of callEnvironment(spec)) out.text(tags.env, variable, 'an environment variable');
  return out;
}

/** Builds `u8 tag, u32 length, value`*. */
export class SpecEncoder {
  #buffer = Buffer.allocUnsafe(4096);
  #length = 0;

  bytes(tag: number, value: Uint8Array): this {
    this.#head(tag, value.length);
    this.#buffer.set(value, this.#length - value.length);
    return this;
  }

  /** Elements that were encoded before. */
  section(encoded: Uint8Array): this {
    this.#grow(encoded.length);
    this.#buffer.set(encoded, this.#length - encoded.length);
    return this;
  }

  /** Text that becomes a C string inside. */
  text(tag: number, value: string, what: string): this {
    if (/^[\x20-\x7e]*$/.test(value)) return this.#ascii(tag, value);
    if (value.includes('\0'))
      throw new RunnerError('invalid_request', `${what} has a NUL byte: ${JSON.stringify(value.slice(0, 80))}`);
    return this.bytes(tag, encodePath(value));
  }

  u8(tag: number, value: number): this {
    this.#head(tag, 1);
    this.#buffer[this.#length - 1] = value;
    return this;
  }

  u32(tag: number, value: number): this {
    this.#head(tag, 4);
    this.#buffer.writeUInt32LE(value, this.#length - 4);
    return this;
  }

  u64(tag: number, value: number | bigint): this {
    this.#head(tag, 8);
    this.#buffer.writeBigUInt64LE(BigInt(value), this.#length - 8);
    return this;
  }

  /** Everything so far, in pieces that fit a frame. */
  pieces(): Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < this.#length; at += payloadMax)
      pieces.push(this.#buffer.subarray(at, Math.min(this.#length, at + payloadMax)));
    return pieces;
  }

  /** Nearly everything is; it is written where it belongs, without a buffer of its own. */
  #ascii(tag: number, value: string): this {
    this.#head(tag, value.length);
    this.#buffer.write(value, this.#length - value.length, 'latin1');
    return this;
  }

  #head(tag: number, length: number): void {
    const at = this.#length;
    this.#grow(5 + length);
    this.#buffer[at] = tag;
    this.#buffer.writeUInt32LE(length, at + 1);
  }

  #grow(by: number): void {
    this.#length += by;
    if (this.#length > specMax)
      throw new RunnerError(
        'limit_exceeded',
        `the command with its arguments, environment and script is over ${specMax} bytes; write the script to a file first`,
      );
    if (this.#length <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#length, 2 * this.#buffer.length));
    this.#buffer.copy(larger);
    this.#buffer = larger;
  }
}

function integer(name: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new RunnerError('invalid_request', `${name} must be a whole number from 0 to ${max}, not ${value}`);
}

function nameOf(spec: ExecSpec): string {
  return spec.command.kind === 'argv' ? spec.command.argv[0] : (spec.command.shell?.[0] ?? '/bin/sh');
}

/** What nearly every command gets, encoded once. */
const quietEnvironment = Buffer.concat(encodeEnvironment(new SpecEncoder(), {}).pieces());

import type { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { whatIsWrong } from '../tools/parse-call.ts';
import type { BodySpec } from './route.ts';
import { refuseVast } from './vast-json.ts';

const jsonBytesMax = 1_048_576;
const atOnceMax = 262_144;

/** What the bodies of all requests together may hold while they arrive and are worked on; those of one team half of it. */
export class BodyRoom {
  readonly #most: number;
  readonly #byTeam = new Map<string, number>();
  #used = 0;

  constructor(mostBytes: number) {
    this.#most = mostBytes;
  }

  /** Throws `queue_full`. */
  take(team: string, bytes: number): void {
    const theirs = (this.#byTeam.get(team) ?? 0) + bytes;
    if (this.#used + bytes > this.#most || theirs > this.#most / 2)
      throw new RunnerError('queue_full', 'too many large requests arrive at once; send it again', {
        retryAfterMs: 500,
      });
    this.#used += bytes;
    this.#byTeam.set(team, theirs);
  }

  give(team: string, bytes: number): void {
    this.#used -= bytes;
    const theirs = (this.#byTeam.get(team) ?? 0) - bytes;
    if (theirs > 0) this.#byTeam.set(team, theirs);
    else this.#byTeam.delete(team);
  }
}

/** The body as its route wants it, and how to let go of its room. Throws before more than the bound has been read. */
export async function readBody(
  request: Request,
  spec: BodySpec,
  { room, team }: { readonly room: BodyRoom; readonly team: string },
): Promise<{ body: unknown; bytes: number; release: () => void }> {
  refuseType(request, spec);
  const most = spec.maxBytes ?? jsonBytesMax;
  const declared = request.headers.get('content-length');
  const tooLarge = (): RunnerError =>
    new RunnerError('payload_too_large', `the body is longer than the ${most} bytes that this route takes`);
  if (spec.kind === 'stream') {
    if (declared !== null && !(Number(declared) <= most)) throw tooLarge();
    return { body: bounded(request, most, tooLarge), bytes: 0, release: () => undefined };
  }
  if (declared !== null) {
    const bytes = Number(declared);
    if (!(bytes <= most)) throw tooLarge();
    room.take(team, bytes);
    const release = (): void => room.give(team, bytes);
    try {
      // Node holds the client to its word, so there is nothing to count.
      const whole = bytes > atOnceMax ? await arriving(request, bytes) : Buffer.from(await request.arrayBuffer());
      return { body: parse(whole, spec), bytes, release };
    } catch (error) {
      release();
      throw error instanceof RunnerError ? error : cutOff();
    }
  }
  const parts: Uint8Array[] = [];
  let held = 0;
  try {
    for await (const part of request.body ?? []) {
      if (held + part.length > most) throw tooLarge();
      room.take(team, part.length);
      held += part.length;
      parts.push(part);
    }
    return { body: parse(Buffer.concat(parts), spec), bytes: held, release: () => room.give(team, held) };
  } catch (error) {
    room.give(team, held);
    throw error instanceof RunnerError ? error : cutOff();
  }
}

async function* bounded(request: Request, most: number, tooLarge: () => RunnerError): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  try {
    for await (const part of request.body ?? []) {
      bytes += part.length;
      if (bytes > most) throw tooLarge();
      yield part;
    }
  } catch (error) {
    throw error instanceof RunnerError ? error : cutOff();
  }
}

/** Each piece goes to its place as it comes: what is put together at the end keeps everybody waiting. */
async function arriving(request: Request, bytes: number): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for await (const part of request.body ?? []) {
    if (part.length > bytes - at) throw cutOff();
    whole.set(part, at);
    at += part.length;
  }
  if (at < bytes) throw cutOff();
  return whole;
}

function parse(bytes: Buffer, spec: BodySpec): unknown {
  if (spec.kind !== 'json') return bytes;
  if (bytes.length === 0 && spec.optional === true) return check({}, spec);
  refuseVast(bytes);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new RunnerError('invalid_request', 'the body is not JSON');
  }
  return check(value, spec);
}

function check(value: unknown, spec: BodySpec & { kind: 'json' }): unknown {
  if (spec.checkedLater !== true) return parseAs(spec.schema, value, 'the body');
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new RunnerError('invalid_request', 'the body is not a JSON object');
}

/** Throws `invalid_request`, which says of each field what is wrong. */
export function parseAs<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RunnerError('invalid_request', `${what}: ${whatIsWrong(parsed.error).slice(0, 2_000)}`);
}

function refuseType(request: Request, spec: BodySpec): void {
  const [given = ''] = (request.headers.get('content-type') ?? '').split(';');
  const type = given.trim().toLowerCase();
  const wanted = spec.kind === 'json' ? 'application/json' : spec.contentType;
  if (type === wanted || (spec.kind === 'json' && type.endsWith('+json'))) return;
  if (type === '' && spec.kind === 'json' && spec.optional === true) return;
  if (spec.kind !== 'json' && (type === '' || type === 'application/octet-stream')) return;
  throw new RunnerError(
    'unsupported_media_type',
    `this route takes ${wanted}, not ${JSON.stringify(type.slice(0, 80))}`,
  );
}

function cutOff(): RunnerError {
  return new RunnerError('invalid_request', 'the body was cut off');
}

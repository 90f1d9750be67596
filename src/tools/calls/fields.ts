import { z } from 'zod';
import { callIdPattern } from '../../ids.ts';
import { digestPattern, type Digest } from '../../digest.ts';

/** Fields that several calls share. */
export const PathField = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => !path.includes('\0'), 'a path holds no NUL byte')
  .describe(
    'Absolute, or relative to the workspace. Bytes that are not UTF-8 are escaped as lone surrogates U+DC80..U+DCFF.',
  );

/**
 * Bytes as base64. Who calls in the same process may give them as they are: they are never made into text then, which for large ones
 * takes time that others wait.
 */
export function base64Field(maxLength?: number): z.ZodType<string | Uint8Array, string | Uint8Array> {
  return z
    .custom<string | Uint8Array>(
      (value) =>
        (value instanceof Uint8Array && !(value.length * 4 > (maxLength ?? Infinity) * 3)) ||
        (typeof value === 'string' && value.length <= (maxLength ?? Infinity) && isBase64(value)),
      maxLength === undefined ? 'base64 with padding' : `base64 with padding, at most ${maxLength} characters`,
    )
    .meta({
      type: 'string',
      format: 'base64',
      contentEncoding: 'base64',
      pattern: base64Pattern,
      ...(maxLength === undefined ? {} : { maxLength }),
    });
}

const base64Pattern = '^$|^(?:[0-9a-zA-Z+/]{4})*(?:(?:[0-9a-zA-Z+/]{2}==)|(?:[0-9a-zA-Z+/]{3}=))?$';

export function base64Bytes(value: string | Uint8Array): Buffer {
  if (typeof value === 'string') return Buffer.from(value, 'base64');
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

/** What the pattern says, in one pass. */
function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

export const Bytes = z
  .union(
    [
      z.strictObject({ utf8: z.string().describe('Text, sent as UTF-8.') }),
      z.strictObject({ base64: base64Field().describe('Exact bytes, base64 with padding.') }),
    ],
    'bytes are {"utf8": TEXT} or {"base64": BASE64 with padding}',
  )
  .describe('Bytes, as text or as base64.');
export type Bytes = z.infer<typeof Bytes>;

export const CallIdField = z.string().regex(callIdPattern).describe('The id of an exec call of this sandbox.');

export const DigestField = z
  .custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'sha256: and 64 hex digits')
  .meta({ type: 'string', pattern: digestPattern.source })
  .describe('Content digest, `sha256:` and 64 hex digits, as stat, read and write report it.');

export const ModeField = z.int().min(0).max(0o777).describe('Permission bits as a number, such as 420 for 0644.');

export const SignalField = z
  .enum(['HUP', 'INT', 'QUIT', 'KILL', 'USR1', 'USR2', 'TERM', 'CONT', 'STOP', 'TSTP', 'WINCH'])
  .describe('Name of the signal, without SIG.');

export function bytesOf(bytes: Bytes): Buffer {
  return 'utf8' in bytes ? Buffer.from(bytes.utf8, 'utf8') : base64Bytes(bytes.base64);
}

export function maxBytesField(standard: number, most: number): z.ZodDefault<z.ZodInt> {
  return z
    .int()
    .min(1)
    .max(most)
    .default(standard)
    .describe(`At most this many bytes come back. Default ${standard}, at most ${most}.`);
}

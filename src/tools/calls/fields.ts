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

export const Bytes = z
  .union(
    [
      z.strictObject({ utf8: z.string().describe('Text, sent as UTF-8.') }),
      z.strictObject({ base64: z.base64().describe('Exact bytes, base64 with padding.') }),
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
  return 'utf8' in bytes ? Buffer.from(bytes.utf8, 'utf8') : Buffer.from(bytes.base64, 'base64');
}

export function maxBytesField(standard: number, most: number): z.ZodDefault<z.ZodInt> {
  return z
    .int()
    .min(1)
    .max(most)
    .default(standard)
    .describe(`At most this many bytes come back. Default ${standard}, at most ${most}.`);
}

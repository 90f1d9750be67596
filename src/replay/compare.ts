import { setImmediate } from 'node:timers/promises';
import { canonicalJson } from '../digest.ts';
import type { EntryOutcome } from '../journal/entry.ts';
import type { Noise, NoiseContext } from './noise.ts';
import { diffLinesMax, shownLine, type Aspect } from './replay-record.ts';

/** How a call ended, whichever time. */
export interface Ended {
  readonly outcome: EntryOutcome;
  readonly exitCode?: number | undefined;
  /** Code of the error that a tool answered with. */
  readonly error?: string | undefined;
}

/** What came out otherwise. */
export interface Difference {
  readonly aspect: Aspect;
  readonly expected: string;
  readonly found: string;
  readonly diff: readonly string[];
}

/** Bytes as they were printed, each a character (latin1), and of which run they are. */
export interface Printed {
  readonly text: string;
  readonly context: NoiseContext;
}

/** `begun`: a clock or a signal ended it, so both go as far as the shorter one does. */
export type Extent = 'whole' | 'begun';

export function compareEnds(then: Ended, now: Ended): Difference | undefined {
  if (canonicalJson(told(then.outcome)) !== canonicalJson(told(now.outcome)))
    return difference('outcome', outcomeText(then), outcomeText(now));
  if (then.exitCode !== now.exitCode)
    return difference('exit_code', `exit ${then.exitCode ?? 'none'}`, `exit ${now.exitCode ?? 'none'}`);
  if (then.error !== now.error) return difference('error', then.error ?? 'no error', now.error ?? 'no error');
  return undefined;
}

/**
 * The first line that differs, but for noise. Lines past `noisyBytesMax` of such that differ are no longer looked at, and count
 * as different: nothing is the same because there was much of it.
 */
export async function comparePrinted(
  aspect: 'output' | 'answer',
  then: Printed,
  now: Printed,
  { noise, extent = 'whole' }: { readonly noise: Noise; readonly extent?: Extent },
): Promise<Difference | undefined> {
  if (then.text === now.text) return undefined;
  const [before, after] = [linesOf(then.text, extent), linesOf(now.text, extent)];
  const length = extent === 'begun' ? Math.min(before.length, after.length) : Math.max(before.length, after.length);
  let [noisyBytes, looked] = [0, 0];
  for (let at = 0; at < length; at++) {
    const [one, other] = [before[at], after[at]];
    if (one === other) continue;
    if (one !== undefined && other !== undefined && noisyBytes <= noisyBytesMax) {
      noisyBytes += one.length + other.length;
      if (++looked % linesInARow === 0) await setImmediate();
      if (sameButForNoise(noise, one, other, then.context, now.context)) continue;
    }
    const much = noisyBytes > noisyBytesMax ? ' (too many lines before it are noise)' : '';
    return {
      aspect,
      expected: shownLine(`line ${at + 1}${much}: ${lineText(one)}`),
      found: shownLine(`line ${at + 1}: ${lineText(other)}`),
      diff: diffAround(before, after, at),
    };
  }
  return undefined;
}

const noisyBytesMax = 1024 * 1024;
const linesInARow = 32;
const linesBefore = 3;
const linesAfter = 6;

export function difference(aspect: Aspect, expected: string, found: string, diff: readonly string[] = []): Difference {
  return { aspect, expected, found, diff };
}

/** The whole lines; of one that was cut off, without the last. */
function linesOf(text: string, extent: Extent): readonly string[] {
  const lines = text.split('\n');
  if (extent === 'begun') lines.pop();
  return lines;
}

/** What is no UTF-8 is no noise either: it would be read as something that it is not. */
function sameButForNoise(noise: Noise, one: string, other: string, then: NoiseContext, now: NoiseContext): boolean {
  const [line, found] = [utf8Of(one), utf8Of(other)];
  if (line === undefined || found === undefined) return false;
  return noise.same({ line, context: then }, { line: found, context: now });
}

function utf8Of(bytes: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes, 'latin1'));
  } catch {
    return undefined;
  }
}

function lineText(line: string | undefined): string {
  return line === undefined ? '(nothing: the end)' : textOf(line);
}

function textOf(line: string): string {
  return Buffer.from(line.slice(0, 2000), 'latin1').toString('utf8');
}

function diffAround(before: readonly string[], after: readonly string[], at: number): readonly string[] {
  const from = Math.max(0, at - linesBefore);
  const same = before.slice(from, at).map((line) => ` ${textOf(line)}`);
  const then = before.slice(at, at + linesAfter).map((line) => `-${textOf(line)}`);
  const now = after.slice(at, at + linesAfter).map((line) => `+${textOf(line)}`);
  return [...same, ...then, ...now].slice(0, diffLinesMax).map(shownLine);
}

/** What of an outcome says how it ended; not how long that took, nor in which words. */
function told(outcome: EntryOutcome): Record<string, unknown> {
  const { kind } = outcome;
  switch (kind) {
    case 'exited':
    case 'out_of_memory':
    case 'pids_limit':
    case 'disk_full':
      return { kind, code: outcome.code };
    case 'signaled':
      return { kind, signal: outcome.signal };
    case 'not_started':
      return { kind, reason: outcome.reason };
    case 'denied':
      return { kind, rule: outcome.rule };
    default:
      return { kind };
  }
}

function outcomeText({ outcome, error }: Ended): string {
  const { kind, ...rest } = told(outcome);
  const words = [String(kind).replaceAll('_', ' '), ...Object.values(rest).map(String)];
  return `${words.join(' ')}${error === undefined ? '' : ` (${error})`}`;
}

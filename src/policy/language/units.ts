import { z } from 'zod';

/** Sizes and durations carry their unit, so that nobody takes 512 for megabytes where it means bytes. */
const sizeUnits: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };
const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export interface Range {
  readonly min: string;
  readonly max: string;
}

/** A string such as `512MiB`, as bytes. */
export function size(range: Range) {
  return quantity('a size with its unit, such as 512MiB (B, KiB, MiB, GiB)', sizeUnits, range);
}

/** A string such as `90s`, as milliseconds. */
export function duration(range: Range) {
  return quantity('a duration with its unit, such as 90s (ms, s, m, h, d)', durationUnits, range);
}

/** ... or `none`, as 0. */
export function durationOrNone(range: Range) {
  const none = z.literal('none').transform(() => 0);
  return z.union([none, duration(range)], { error: 'write a duration with its unit, such as 90s, or none' });
}

function quantity(what: string, units: Readonly<Record<string, number>>, range: Range) {
  const min = valueOf(range.min, units);
  const max = valueOf(range.max, units);
  return z.string({ error: `write ${what}` }).transform((text, context) => {
    const value = valueOf(text, units);
    if (value === undefined) {
      context.addIssue(`${JSON.stringify(text.slice(0, 40))} is not understood: write ${what}`);
      return z.NEVER;
    }
    if (value < (min ?? 0) || value > (max ?? 0)) {
      context.addIssue(`${text} is out of range: from ${range.min} to ${range.max}`);
      return z.NEVER;
    }
    return value;
  });
}

function valueOf(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits, unit] = /^(\d{1,12}(?:\.\d{1,3})?) ?([A-Za-z]+)$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined || !Object.hasOwn(units, unit)) return undefined;
  return Math.round(Number(digits) * (units[unit] ?? 0));
}

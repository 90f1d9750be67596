import { InvalidArgumentError } from 'commander';

const units: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };

/**
 * For an option that wants a time: how long ago (`90m`, `36h`, `30d`, `8w`), a day or a time of ISO 8601, which is of UTC where it
 * does not say another zone, or `all`, which is undefined. Anything else is a usage error.
 */
export function sinceTime(text: string, nowMs: number = Date.now()): number | undefined {
  if (text === 'all') return undefined;
  const [, count = '', unit = ''] = /^(\d{1,5})([mhdw])$/.exec(text) ?? [];
  const agoMs = Number(count) * (units[unit] ?? Number.NaN);
  if (unit !== '') return Math.max(0, nowMs - agoMs);
  const isDay = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const isTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?$/.test(text);
  const hasZone = /(Z|[+-]\d{2}:\d{2})$/.test(text.slice(10));
  const ms = isDay || isTime ? Date.parse(isDay || hasZone ? text : `${text}Z`) : Number.NaN;
  if (Number.isFinite(ms) && ms >= 0) return ms;
  throw new InvalidArgumentError('It wants how long ago (36h, 30d, 8w), a day (2026-01-31), a time, or all.');
}

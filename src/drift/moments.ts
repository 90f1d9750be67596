import { shown, type DriftFinding } from './findings.ts';
import type { Section } from './fingerprint.ts';

/** What is never twice the same is not compared by its value: here is what of it is worth telling. */

/** A clock that was off already explains nothing; one that is off now does. */
export function clockFindings(
  expected: Section | undefined,
  found: Section | undefined,
  skewMs: number,
): readonly DriftFinding[] {
  const is = numberOf(found, 'skew_ms');
  if (is === undefined) return [];
  const was = numberOf(expected, 'skew_ms') ?? 0;
  if (Math.abs(is) <= skewMs || Math.abs(is - was) <= skewMs) return [];
  const way = is > 0 ? 'ahead' : 'behind';
  const text = `the clock is ${secondsText(Math.abs(is))} ${way}: certificates, tokens, timestamps and whatever waits go wrong`;
  return [{ kind: 'clock', source: 'clock', key: 'skew_ms', expected: `${was}`, found: `${is}`, text }];
}

/** A processor that was held back for a quarter of the time, and half a second at least: the rest is how quotas work. */
const throttled = { share: 0.25, periodsMin: 5 };
/** Of ten seconds something waited for memory or the disk: percent, as the kernel has them. */
const stalled = 20;

/** What was used up while it was looked at: not how much, but that it was not enough. */
export function pressureFindings(expected: Section | undefined, found: Section | undefined): readonly DriftFinding[] {
  if (found === undefined) return [];
  const grown = (key: string): number => (numberOf(found, key) ?? 0) - (numberOf(expected, key) ?? 0);
  const findings: DriftFinding[] = [];
  const add = (key: string, what: string): void => {
    const [was, is] = [expected?.evidence[key], found.evidence[key]];
    findings.push({ kind: 'resource_pressure', source: 'pressure', key, expected: was, found: is, text: what });
  };
  if (grown('oom_kills') > 0) add('oom_kills', `memory ran out: ${grown('oom_kills')} processes were killed for it`);
  if (grown('pids_limit_hits') > 0)
    add('pids_limit_hits', 'the limit of processes was reached: no more could be started');
  const share = shareOf(found);
  if (share !== undefined && share - (shareOf(expected) ?? 0) > throttled.share)
    add(
      'cpu_throttled_periods',
      `the processor was held back in ${Math.round(share * 100)} % of the time: what has a deadline may miss it`,
    );
  for (const [key, what] of stalls) {
    const is = numberOf(found, key) ?? 0;
    if (is >= stalled && is - (numberOf(expected, key) ?? 0) >= stalled)
      add(key, `${what} kept everything waiting for ${Math.round(is)} % of the time`);
  }
  return findings;
}

const stalls = [
  ['memory_wait_percent', 'memory'],
  ['io_wait_percent', 'the disk'],
] as const;

function shareOf(section: Section | undefined): number | undefined {
  const [held, periods] = [numberOf(section, 'cpu_throttled_periods'), numberOf(section, 'cpu_periods')];
  return held === undefined || periods === undefined || periods < throttled.periodsMin ? undefined : held / periods;
}

/** Calls whose command has ended and whose processes have not; what still runs is not left. */
export function processFindings(expected: Section | undefined, found: Section | undefined): readonly DriftFinding[] {
  return Object.entries(found?.evidence ?? {}).flatMap(([key, state]) => {
    if (state.startsWith('running') || Object.hasOwn(expected?.evidence ?? {}, key)) return [];
    const text = `${shown(key)} has left processes running (${shown(state)}): they may hold ports, files and locks`;
    return [{ kind: 'process_left', source: 'processes', key, expected: undefined, found: state, text } as const];
  });
}

function numberOf(section: Section | undefined, key: string): number | undefined {
  const text = section?.evidence[key];
  return text === undefined || !/^-?\d{1,18}(?:\.\d{1,9})?$/.test(text) ? undefined : Number(text);
}

function secondsText(ms: number): string {
  return ms < 120_000 ? `${Math.round(ms / 100) / 10} s` : `${Math.round(ms / 60_000)} min`;
}

/** `64 MiB`; whole bytes where it is less. */
export function sizeText(bytes: number): string {
  const units = ['GiB', 'MiB', 'KiB'] as const;
  const at = units.findIndex((_, n) => bytes >= 1024 ** (3 - n));
  return at < 0 ? `${bytes} bytes` : `${Math.round((bytes / 1024 ** (3 - at)) * 10) / 10} ${units[at]}`;
}

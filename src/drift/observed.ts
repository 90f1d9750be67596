import type { Entry, EntryData } from '../journal/entry.ts';
import { shown, type DriftFinding } from './findings.ts';

/** What happened in a run that a fingerprint does not show, as its journal has it. */
export interface Observed {
  /** How the last connection or request to each host ended, or was decided. */
  readonly hosts: ReadonlyMap<string, HostEnd>;
  /** What calls ran out of, by resource. */
  readonly ranOut: ReadonlyMap<string, { readonly callId: string; readonly text: string }>;
  /** Calls that left processes running. */
  readonly left: ReadonlyMap<string, number>;
  /** What was done from outside, and is on record. */
  readonly outside: readonly DriftFinding[];
}

interface HostEnd {
  readonly end: 'reached' | 'denied' | 'unresolvable' | 'refused' | 'timed_out' | 'cut';
  /** Rule or reason. */
  readonly why: string;
}

const hostsMax = 1000;
const callsMax = 1000;

/** Reads a journal once. What nobody could say of one that is open is left out. */
export async function observe(entries: AsyncIterable<Entry> | Iterable<Entry>): Promise<Observed> {
  const hosts = new Map<string, HostEnd>();
  const asked = new Map<number, string>();
  const ranOut = new Map<string, { readonly callId: string; readonly text: string }>();
  const left = new Map<string, number>();
  const outside: DriftFinding[] = [];
  for await (const entry of entries) {
    if (entry.type === 'egress.decided') noteDecided(entry.data, hosts, asked);
    else if (entry.type === 'egress.ended') noteEnded(entry.data, hosts, asked);
    else if (entry.type === 'call.ended') noteCall(entry.data, ranOut, left);
    else if (entry.type === 'drift.found' && entry.data.at === 'outside') outside.push(...fromOutside(entry.data));
  }
  return { hosts, ranOut, left, outside };
}

/** What happened in the one and not in the other. */
export function observedFindings(expected: Observed, found: Observed): readonly DriftFinding[] {
  return [
    ...[...found.ranOut]
      .filter(([what]) => !expected.ranOut.has(what))
      .map(([what, { callId, text }]) =>
        finding('resource_pressure', 'calls', what, undefined, 'ran out', text, callId),
      ),
    ...[...found.hosts].flatMap(([host, end]) => hostFinding(host, expected.hosts.get(host), end)),
    ...[...found.left]
      .filter(([callId]) => !expected.left.has(callId))
      .map(([callId, count]) =>
        finding(
          'process_left',
          'calls',
          callId,
          undefined,
          `${count}`,
          `call ${callId} left ${count} processes running: they may hold ports, files and locks`,
          callId,
        ),
      ),
    ...found.outside.filter(({ key }) => !expected.outside.some((other) => other.key === key)),
  ];
}

type Decided = EntryData<'egress.decided'>;

function noteDecided(
  { id, host, decision, rule, reason, kind }: Decided,
  hosts: Map<string, HostEnd>,
  asked: Map<number, string>,
): void {
  if (asked.size < hostsMax) asked.set(id, host);
  // That a name was allowed says nothing yet; how it was reached tells.
  if (decision === 'denied') note(hosts, host, { end: 'denied', why: rule ?? reason ?? '' });
  else if (kind === 'request') note(hosts, host, { end: 'reached', why: rule ?? '' });
}

function noteEnded(
  { id, result, reason }: EntryData<'egress.ended'>,
  hosts: Map<string, HostEnd>,
  asked: Map<number, string>,
): void {
  const host = asked.get(id);
  if (host === undefined || result === 'cut') return;
  if (result === 'done') note(hosts, host, { end: 'reached', why: '' });
  else note(hosts, host, { end: result, why: reason ?? '' });
}

/** Once it was reached it is reached: one connection that breaks is no other environment. */
function note(hosts: Map<string, HostEnd>, host: string, end: HostEnd): void {
  if (!hosts.has(host) && hosts.size >= hostsMax) return;
  if (hosts.get(host)?.end === 'reached' && end.end !== 'denied' && end.end !== 'unresolvable') return;
  hosts.set(host, end);
}

function noteCall(
  { callId, outcome, descendants = 0 }: EntryData<'call.ended'>,
  ranOut: Map<string, { readonly callId: string; readonly text: string }>,
  left: Map<string, number>,
): void {
  const out = (what: string, text: string): void => {
    if (!ranOut.has(what)) ranOut.set(what, { callId, text: `${text} in call ${callId}` });
  };
  if (outcome.kind === 'out_of_memory') out('memory', 'memory ran out: its processes were killed');
  if (outcome.kind === 'pids_limit') out('processes', `the limit of ${outcome.limit} processes was reached`);
  if (outcome.kind === 'disk_full') out('disk', `no room was left on ${outcome.where.map(shown).join(', ')}`);
  if (descendants > 0 && left.size < callsMax) left.set(callId, descendants);
}

function fromOutside({ findings }: EntryData<'drift.found'>): readonly DriftFinding[] {
  return findings.map(({ kind, key, expected, found, text }) => ({
    kind,
    source: 'container',
    key,
    expected,
    found,
    text,
  }));
}

function hostFinding(host: string, expected: HostEnd | undefined, found: HostEnd): readonly DriftFinding[] {
  if (found.end === 'reached' || expected?.end === found.end) return [];
  const why = found.why === '' ? '' : ` (${shown(found.why)})`;
  const there = expected?.end === 'reached' ? ', and was reached there' : '';
  const text = `${shown(host)} ${ends[found.end]}${why}${there}: what needs it fails`;
  return [finding('egress', 'hosts', host, expected?.end, found.end, text)];
}

const ends: Readonly<Record<Exclude<HostEnd['end'], 'reached'>, string>> = {
  denied: 'was denied',
  unresolvable: 'has no address here',
  refused: 'refused the connection',
  timed_out: 'did not answer',
  cut: 'was cut off',
};

function finding(
  kind: DriftFinding['kind'],
  source: 'calls' | 'hosts',
  key: string,
  expected: string | undefined,
  found: string,
  text: string,
  callId?: string,
): DriftFinding {
  return { kind, source, key, expected, found, text, ...(callId === undefined ? {} : { callId }) };
}

import { randomBytes } from 'node:crypto';
import { RunnerError } from '../errors.ts';
import type { ProbedInterface, ProbeReport, ProbeResult, ProbeTarget } from '../sandbox/probe.ts';
import { errno, SocketError } from '../sandbox/gateway/socket-error.ts';
import { FileError } from '../sandbox/spec.ts';

/** What `Sandbox` has of it. */
export interface Prober {
  probe(targets: readonly ProbeTarget[]): Promise<ProbeReport>;
}

/** What a program inside asks its resolver for: nobody listens there, or the fence says that there is no such name. */
export type NamesInside = 'refused' | 'nxdomain';

/** For the journal: what was seen and tried, and how each attempt ended. */
export interface IsolationProof {
  readonly interfaces: readonly string[];
  readonly attempts: readonly { readonly to: string; readonly end: string }[];
  readonly ms: number;
}

/**
 * Shows from inside, as the tools' user, that a sandbox has no network but what the runner carries, whatever the engine says of
 * it. Throws `isolation_unproven` unless
 *  - loopback is the only interface that is up;
 *  - addresses that exist nowhere (RFC 5737, RFC 3849), and that of metadata services, have no route at all: an attempt that
 *    times out has left the sandbox, and proves nothing;
 *  - a name that nobody listed is refused as `names` says.
 */
export async function proveIsolation(sandbox: Prober, names: NamesInside): Promise<IsolationProof> {
  const startMs = performance.now();
  const question = unlistedQuestion();
  const targets: readonly ProbeTarget[] = [...outside, { ...resolver, payload: question }];
  const { interfaces, results } = await probed(sandbox, targets);
  const attempts = attemptsOf(targets, results);
  const wrong = [
    ...waysOut(interfaces, results, attempts),
    ...(isRefused(results[outside.length], names, question)
      ? []
      : [`a name that nobody listed: ${said(attempts.at(-1))}`]),
  ];
  if (wrong.length > 0) throw unproven(wrong.join('; '));
  const ms = Math.round((performance.now() - startMs) * 10) / 10;
  return { interfaces: interfaces.map(({ name }) => name), attempts, ms };
}

/**
 * The same once more while it is used, but for names: a question costs what its policy has of them. What is wrong, in words;
 * nothing when nothing is. Rejects where it could not be looked, as when there is no room for one more process.
 */
export async function findWaysOut(sandbox: Prober): Promise<readonly string[]> {
  const targets = outside.map((target) => ({ ...target, timeoutMs: againMs }));
  const { interfaces, results } = await sandbox.probe(targets);
  return waysOut(interfaces, results, attemptsOf(targets, results));
}

function attemptsOf(targets: readonly ProbeTarget[], results: readonly ProbeResult[]): IsolationProof['attempts'] {
  return targets.map((target, n) => ({ to: textOf(target), end: endOf(results[n]) }));
}

/** Of the interfaces, and of the attempts in `outside`, which come first. */
function waysOut(
  interfaces: readonly ProbedInterface[],
  results: readonly ProbeResult[],
  attempts: IsolationProof['attempts'],
): readonly string[] {
  return [
    ...interfaces
      .filter((each) => !isHarmless(each))
      .map(({ name }) => `it has the network interface ${JSON.stringify(name)}`),
    ...(interfaces.some(isLoopback) ? [] : ['it has no loopback']),
    ...outside.flatMap((_, n) => (isUnreachable(results[n]) ? [] : [said(attempts[n])])),
  ];
}

/** Every true answer comes at once; this much is for a machine that is too busy to look. */
const timeoutMs = 10_000;
/** An attempt without a route ends before it has begun: one that waits has left already. */
const againMs = 1_000;

const outside = [
  { kind: 'tcp', address: '192.0.2.1', port: 80, timeoutMs },
  { kind: 'tcp', address: '169.254.169.254', port: 80, timeoutMs },
  { kind: 'tcp', address: '2001:db8::1', port: 80, timeoutMs },
  { kind: 'udp', address: '192.0.2.1', port: 53, timeoutMs, payload: Buffer.from('anybody there?') },
] as const satisfies readonly ProbeTarget[];

const resolver = { kind: 'udp', address: '127.0.0.1', port: 53, timeoutMs } as const;

async function probed(sandbox: Prober, targets: readonly ProbeTarget[]): Promise<ProbeReport> {
  try {
    return await sandbox.probe(targets);
  } catch (error) {
    if (error instanceof FileError) throw unproven(`the probe did not end: ${error.message}`, error);
    throw error;
  }
}

function unproven(what: string, cause?: unknown): RunnerError {
  const message = `The sandbox was probed from inside and is not sealed: ${what}. It is destroyed and nothing ran in it. See what attaches networks to containers of this engine, then open it again.`;
  return new RunnerError('isolation_unproven', message, { cause });
}

/** netdevice(7) */
const IFF_UP = 1;
const IFF_LOOPBACK = 8;

function isLoopback({ flags }: ProbedInterface): boolean {
  return (flags & IFF_LOOPBACK) !== 0;
}

/** Some hosts give every new name space a `tunl0` or `sit0` that is down; without CAP_NET_ADMIN it stays so. */
function isHarmless(each: ProbedInterface): boolean {
  return isLoopback(each) || (each.flags & IFF_UP) === 0;
}

/** What a kernel says by itself, without sending anything. */
const noRoute: readonly number[] = [
  errno.networkUnreachable,
  errno.hostUnreachable,
  errno.addressNotAvailable,
  errno.familyNotSupported,
];

function isUnreachable(result: ProbeResult | undefined): boolean {
  return result !== undefined && noRoute.includes(result.errno);
}

function isRefused(result: ProbeResult | undefined, names: NamesInside, question: Buffer): boolean {
  if (result === undefined) return false;
  return names === 'refused' ? result.errno === errno.connectionRefused : isNxdomain(result, question);
}

const dnsHeadBytes = 12;
const NXDOMAIN = 3;

/** RFC 1035: the same id, an answer, no such name, and nothing in it. */
function isNxdomain({ errno: failed, answer }: ProbeResult, question: Buffer): boolean {
  if (failed !== errno.ok || answer.length < dnsHeadBytes) return false;
  const isAnswer = answer.readUInt16BE(0) === question.readUInt16BE(0) && (answer.readUInt8(2) & 0x80) !== 0;
  return isAnswer && (answer.readUInt8(3) & 0x0f) === NXDOMAIN && answer.readUInt16BE(6) === 0;
}

/** For an address of a name below `invalid` (RFC 6761), which no policy can list. */
function unlistedQuestion(): Buffer {
  const label = Buffer.from(`unlisted-${randomBytes(4).toString('hex')}`);
  const head = Buffer.alloc(dnsHeadBytes);
  randomBytes(2).copy(head, 0);
  head.writeUInt16BE(0x0100, 2); // recursion desired
  head.writeUInt16BE(1, 4); // one question
  const name = Buffer.concat([Buffer.from([label.length]), label, Buffer.from('\x07invalid\0', 'latin1')]);
  return Buffer.concat([head, name, Buffer.from([0, 1, 0, 1])]);
}

function textOf({ kind, address, port }: ProbeTarget): string {
  return `${kind} ${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function endOf(result: ProbeResult | undefined): string {
  if (result === undefined) return 'unknown';
  if (result.errno !== errno.ok) return new SocketError(result.errno, '').code;
  return result.answer.length === 0 ? 'connected' : `answered with ${result.answer.length} bytes`;
}

function said(attempt: IsolationProof['attempts'][number] | undefined): string {
  return `${attempt?.to} ended with ${attempt?.end}`;
}

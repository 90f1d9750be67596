import { isIPv6 } from 'node:net';
import type { Slots } from '../slots.ts';
import { broken } from './frames.ts';
import { startHand, type HandHost, type RecordSink } from './hand.ts';
import { tags } from './wire.ts';

/** One attempt to reach something from inside, as the tools' user. */
export interface ProbeTarget {
  /** `tcp` connects; `udp` sends `payload` and waits for an answer. */
  readonly kind: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly payload?: Uint8Array;
}

export interface ProbeReport {
  readonly interfaces: readonly ProbedInterface[];
  /** In the order of the targets. */
  readonly results: readonly ProbeResult[];
}

export interface ProbedInterface {
  readonly name: string;
  /** `netdevice(7)`: IFF_UP 1, IFF_LOOPBACK 8, ... */
  readonly flags: number;
}

export interface ProbeResult {
  /** 0: it connected, or an answer came. */
  readonly errno: number;
  /** Of UDP, at most 512 bytes. */
  readonly answer: Buffer;
}

const probesMax = 16;
const interfacesMax = 256;
const slackMs = 5_000;

/** All attempts at once, by one hand. Rejects when the hand fails, and with `protocol_error` for an answer that answers nothing. */
export async function probe(host: HandHost, slots: Slots, targets: readonly ProbeTarget[]): Promise<ProbeReport> {
  if (targets.length > probesMax) throw new RangeError(`a probe has at most ${probesMax} targets`);
  const interfaces: ProbedInterface[] = [];
  const results = new Map<number, ProbeResult>();
  const sink: RecordSink = (record) => {
    if (record.kind === 'interface') {
      if (interfaces.length >= interfacesMax) throw broken('a probe with more interfaces than there can be');
      interfaces.push({ name: record.name, flags: record.flags });
    } else if (record.kind === 'probed') {
      if (record.index >= targets.length || results.has(record.index))
        throw broken(`an answer to probe ${record.index} of ${targets.length}`);
      results.set(record.index, { errno: record.errno, answer: record.answer });
    } else if (record.kind !== 'end') throw broken(`${record.kind} in the answer to a probe`);
    return true;
  };
  const timeoutMs = Math.max(0, ...targets.map((target) => target.timeoutMs)) + slackMs;
  const args = (spec: Parameters<Parameters<typeof startHand>[2]['args']>[0]): void => {
    for (const target of targets) spec.bytes(tags.probe, encodeTarget(target));
  };
  const hand = await startHand(
    host,
    slots,
    { verb: 'probe', path: 'the network', args, stdin: false, timeoutMs },
    sink,
  );
  await hand.done;
  if (interfaces.length === 0 || results.size !== targets.length)
    throw broken(`a probe of ${targets.length} targets with ${results.size} answers`);
  const inOrder = targets.flatMap((_, index) => results.get(index) ?? []);
  return { interfaces, results: inOrder };
}

/** `u8 protocol, u8 family, address, u16 port, u16 timeoutMs, payload`. */
function encodeTarget({ kind, address, port, timeoutMs, payload = new Uint8Array(0) }: ProbeTarget): Buffer {
  const bytes = addressBytes(address);
  const fixed = Buffer.alloc(4);
  fixed.writeUInt16LE(port, 0);
  fixed.writeUInt16LE(timeoutMs, 2);
  return Buffer.concat([Buffer.from([kind === 'tcp' ? 1 : 2, bytes.length === 16 ? 6 : 4]), bytes, fixed, payload]);
}

/** In network order. IPv6 without an embedded IPv4 address, which nobody asks for here. */
function addressBytes(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const bytes = Buffer.alloc(16);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  for (const [n, group] of all.entries()) bytes.writeUInt16BE(group, 2 * n);
  return bytes;
}

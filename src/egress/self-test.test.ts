import { describe, expect, test } from 'vitest';
import type { ProbedInterface, ProbeReport, ProbeResult, ProbeTarget } from '../sandbox/probe.ts';
import { FileError } from '../sandbox/spec.ts';
import { proveIsolation, type NamesInside } from './self-test.ts';

const lo = { name: 'lo', flags: 0x49 };
const unreachable = { errno: 101, answer: Buffer.alloc(0) };
const refused = { errno: 111, answer: Buffer.alloc(0) };
const answered = (bytes: Buffer): ProbeResult => ({ errno: 0, answer: bytes });

interface Lie {
  readonly interfaces?: readonly ProbedInterface[];
  /** What the attempt with this text ends with. */
  readonly ends?: Readonly<Record<string, ProbeResult>>;
  readonly resolver?: (question: Buffer) => ProbeResult;
}

/** A sandbox that is sealed but for what `lie` says. */
function sandbox({ interfaces = [lo], ends = {}, resolver = () => refused }: Lie): {
  probe(targets: readonly ProbeTarget[]): Promise<ProbeReport>;
} {
  const one = ({ kind, address, port, payload = Buffer.alloc(0) }: ProbeTarget): ProbeResult =>
    address === '127.0.0.1' ? resolver(Buffer.from(payload)) : (ends[`${kind} ${address} ${port}`] ?? unreachable);
  return { probe: (targets) => Promise.resolve({ interfaces, results: targets.map(one) }) };
}

/** What a resolver makes of a question. */
function answer(code: number, change: (bytes: Buffer) => void = () => undefined) {
  return (question: Buffer): ProbeResult => {
    const bytes = Buffer.from(question);
    bytes[2] = 0x81;
    bytes[3] = 0x80 | code;
    change(bytes);
    return answered(bytes);
  };
}

describe('the proof that a sandbox is sealed', () => {
  test('holds when there is only loopback, no route, and nobody who knows names', async () => {
    const proof = await proveIsolation(sandbox({}), 'refused');
    expect(proof.interfaces).toEqual(['lo']);
    expect(proof.attempts).toEqual([
      { to: 'tcp 192.0.2.1:80', end: 'ENETUNREACH' },
      { to: 'tcp 169.254.169.254:80', end: 'ENETUNREACH' },
      { to: 'tcp [2001:db8::1]:80', end: 'ENETUNREACH' },
      { to: 'udp 192.0.2.1:53', end: 'ENETUNREACH' },
      { to: 'udp 127.0.0.1:53', end: 'ECONNREFUSED' },
    ]);
  });

  test('holds behind a fence that knows no such name', async () => {
    const proof = await proveIsolation(sandbox({ resolver: answer(3) }), 'nxdomain');
    expect(proof.attempts.at(-1)?.end).toMatch(/^answered with \d+ bytes$/);
  });

  test('holds beside a tunnel that is down, as some hosts give to every name space', async () => {
    await proveIsolation(sandbox({ interfaces: [lo, { name: 'tunl0', flags: 0x80 }] }), 'refused');
  });

  test.each<[string, Lie, NamesInside]>([
    ['a second interface', { interfaces: [lo, { name: 'eth0', flags: 0x1043 }] }, 'refused'],
    ['no loopback', { interfaces: [{ name: 'tunl0', flags: 0x80 }] }, 'refused'],
    ['an address that answers', { ends: { 'tcp 192.0.2.1 80': answered(Buffer.alloc(0)) } }, 'refused'],
    ['an attempt that left and was lost', { ends: { 'tcp 192.0.2.1 80': { ...refused, errno: 110 } } }, 'refused'],
    ['metadata that refuses', { ends: { 'tcp 169.254.169.254 80': refused } }, 'refused'],
    ['a way out by IPv6', { ends: { 'tcp 2001:db8::1 80': { ...refused, errno: 110 } } }, 'refused'],
    ['a resolver outside', { ends: { 'udp 192.0.2.1 53': answered(Buffer.alloc(12)) } }, 'refused'],
    ['a resolver inside that nobody asked for', { resolver: answer(3) }, 'refused'],
    ['a resolver that knows every name', { resolver: answer(0) }, 'nxdomain'],
    ['no resolver where the fence should be', {}, 'nxdomain'],
    [
      'a resolver that answers something else',
      { resolver: answer(3, (bytes) => (bytes[0] = ~(bytes[0] ?? 0))) },
      'nxdomain',
    ],
    ['a resolver that asks back', { resolver: answer(3, (bytes) => (bytes[2] = 1)) }, 'nxdomain'],
    ['no such name, but an answer', { resolver: answer(3, (bytes) => (bytes[7] = 1)) }, 'nxdomain'],
    ['an answer that is none', { resolver: () => answered(Buffer.alloc(3)) }, 'nxdomain'],
  ])('fails with %s', async (_what, lie, names) => {
    await expect(proveIsolation(sandbox(lie), names)).rejects.toMatchObject({ code: 'isolation_unproven' });
  });

  test('fails when the probe cannot be made', async () => {
    const probe = () => Promise.reject(new FileError('io', 'the network', 'probe: was cut short'));
    await expect(proveIsolation({ probe }, 'refused')).rejects.toMatchObject({ code: 'isolation_unproven' });
  });
});

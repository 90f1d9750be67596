import { describe, expect, test } from 'vitest';
import { Slots } from '../slots.ts';
import { GatewayPeer } from './gateway/gateway.fixture.ts';
import { probe, type ProbeReport, type ProbeTarget } from './probe.ts';

const targets: readonly ProbeTarget[] = [
  { kind: 'tcp', address: '192.0.2.1', port: 80, timeoutMs: 1000 },
  { kind: 'tcp', address: '2001:db8::1', port: 443, timeoutMs: 2000 },
  { kind: 'udp', address: '::', port: 53, timeoutMs: 3000, payload: Buffer.from('who?') },
];

/** A probe that the supervisor has started. */
async function probing(): Promise<{ peer: GatewayPeer; report: Promise<ProbeReport> }> {
  const { peer, link } = await GatewayPeer.link();
  const report = probe({ link: () => Promise.resolve(link), takeNumber: () => 7 }, new Slots(1), targets);
  report.catch(() => undefined);
  while (peer.spec.length === 0) await Promise.resolve();
  peer.started();
  return { peer, report };
}

function record(kind: string, ...parts: readonly (string | readonly number[])[]): Buffer {
  const payload = Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))),
  );
  const head = Buffer.from([kind.charCodeAt(0), 0, 0, 0, 0]);
  head.writeUInt32LE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

const lo = record('I', [0x49, 0, 0, 0], 'lo');
const answer = (index: number, errno: number, text = ''): Buffer => record('P', [index, errno, 0, 0, 0], text);
const end = record('Z', Array<number>(17).fill(0));

describe('a probe', () => {
  test('asks for every target in the bytes of docs/protocol.md', async () => {
    const { peer } = await probing();
    const asked: string[] = [];
    for (let at = 0; at < peer.spec.length; at += 5 + peer.spec.readUInt32LE(at + 1))
      if (peer.spec[at] === 40) asked.push(peer.spec.toString('hex', at + 5, at + 5 + peer.spec.readUInt32LE(at + 1)));
    expect(asked).toEqual(
      [
        '01 04 c0000201 5000 e803',
        '01 06 20010db8000000000000000000000001 bb01 d007',
        '02 06 00000000000000000000000000000000 3500 b80b 77686f3f',
      ].map((bytes) => bytes.replaceAll(' ', '')),
    );
  });

  test('tells interfaces, and how each attempt ended, in the order of the targets', async () => {
    const { peer, report } = await probing();
    peer.say(Buffer.concat([lo, answer(2, 0, 'me'), answer(0, 101), answer(1, 99), end]));
    peer.exited();
    const { interfaces, results } = await report;
    expect(interfaces).toEqual([{ name: 'lo', flags: 0x49 }]);
    expect(results.map(({ errno, answer: said }) => [errno, said.toString()])).toEqual([
      [101, ''],
      [99, ''],
      [0, 'me'],
    ]);
  });

  test.each<[string, readonly Buffer[]]>([
    ['an answer is missing', [lo, answer(0, 1), answer(1, 1), end]],
    ['an attempt is answered twice', [lo, answer(0, 1), answer(0, 1)]],
    ['an attempt is answered that nobody made', [lo, answer(3, 1)]],
    ['there is no interface', [answer(0, 1), answer(1, 1), answer(2, 1), end]],
    ['there are more interfaces than can be', Array.from({ length: 257 }, () => lo)],
    ['an interface has no name', [record('I', [0, 0, 0, 0])]],
    ['an answer is longer than was asked for', [lo, answer(0, 0, 'x'.repeat(513))]],
    ['it answers what a file verb would', [lo, record('D', 'x')]],
  ])('is not believed when %s', async (_what, records) => {
    const { peer, report } = await probing();
    peer.say(Buffer.concat(records));
    if (!peer.destroyed) peer.exited();
    await expect(report).rejects.toMatchObject({ code: 'protocol_error' });
  });

  test('that fails inside is an error of its own', async () => {
    const { peer, report } = await probing();
    peer.say(record('E', [12, 0, 0, 0], ''));
    peer.exited(1);
    await expect(report).rejects.toMatchObject({ name: 'FileError' });
  });
});

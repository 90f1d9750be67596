import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { GatewayPeer, peerBytes, record, somebody, u32 } from './gateway.fixture.ts';
import { creditBytes, dataMax } from './gateway-records.ts';
import type { Gateway, InnerConnection } from './gateway.ts';

/*
 * A hostile gateway against the whole state machine, as `link.fuzz.test.ts` is one against the stream. Each case says valid things
 * for a while and then, in most cases, one thing that the grammar forbids; what it is, where it comes and how the stream is cut
 * is random. Replay a failure with GLOVEBOX_FUZZ_SEED=<seed> GLOVEBOX_FUZZ_CASES=1.
 */
const seed = Number(process.env['GLOVEBOX_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const cases = Number(process.env['GLOVEBOX_FUZZ_CASES'] ?? 10_000);

/** The gateway's own idea of a connection, and what the runner's side should have been told of it. */
interface Model {
  readonly number: number;
  phase: 'open' | 'ended' | 'reset' | 'gone';
  /** What the runner's side is known to have done. */
  ours: 'open' | 'ended' | 'reset';
  sentBytes: number;
  inner: InnerConnection | undefined;
  readBytes: number;
}

/** One case: what both sides know. */
interface World {
  readonly peer: GatewayPeer;
  readonly gateway: Gateway;
  readonly models: Model[];
  readonly tcp: number;
  readonly udp: number;
  datagrams: number;
  heard: number;
  lastAccepted: number;
}

test(`${cases} hostile gateways end with protocol_error and nothing else (seed ${seed})`, async () => {
  const kinds = new Map<string, number>();
  for (let n = 0; n < cases; n++) {
    const caseSeed = (seed + n * 2_654_435_761) >>> 0;
    try {
      const kind = await oneCase(randomFrom(caseSeed));
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    } catch (error) {
      throw new Error(`case ${n}: replay with GLOVEBOX_FUZZ_SEED=${caseSeed} GLOVEBOX_FUZZ_CASES=1`, { cause: error });
    }
  }
  // Every kind of lie was told. (A replay of one case is excused.)
  if (cases >= 10_000) expect([...kinds.keys()].sort()).toEqual([...lies.map((lie) => lie.name), 'truth'].sort());
}, 120_000);

async function oneCase(random: Random): Promise<string> {
  const world = await open();
  const { peer, gateway, models } = world;
  for (let steps = random(12); steps > 0; steps--) {
    send(random, peer, truth(random, world));
    await turn(); // what a gateway says is heard a little in each
    if (random(3) === 0) act(random, world);
  }
  check(world);
  const lie = random(10) === 0 ? undefined : lies[random(lies.length)];
  const forged = lie?.tell(random, world);
  if (forged !== undefined) send(random, peer, forged);
  await turn();
  if (peer.destroyed !== (forged !== undefined))
    throw new Error(`${lie?.name}: the sandbox is destroyed: ${peer.destroyed}`);
  if (forged === undefined) check(world);
  else if (gateway.open || models.some(({ inner, phase }) => phase !== 'gone' && inner?.destroyed === false))
    throw new Error(`something goes on after ${lie?.name}`);
  peer.emit('end');
  await gateway.gone;
  return forged === undefined || lie === undefined ? 'truth' : lie.name;
}

async function open(): Promise<World> {
  const come: InnerConnection[] = [];
  const { peer, gateway } = await GatewayPeer.open({
    connection: (inner) => {
      come.push(inner);
      const model = world.models.at(-1);
      if (model === undefined) throw new Error('a connection from nowhere');
      model.inner = inner;
      inner.on('data', (bytes: Buffer) => (model.readBytes += bytes.length));
    },
    datagram: () => (world.heard += 1),
  });
  const tcp = await peer.listening(gateway);
  const udp = await peer.listening(gateway, 'udp');
  const world: World = { peer, gateway, models: [], tcp, udp, datagrams: 0, heard: 0, lastAccepted: -1 };
  return world;
}

/** Something that an honest gateway could say next. */
function truth(random: Random, world: World): Buffer {
  learn(world);
  const model = world.models[random(world.models.length + 1)];
  if (model === undefined) {
    if (random(3) === 0) {
      world.datagrams++;
      return record('U', world.udp, peerBytes(somebody), Buffer.alloc(random(4097)));
    }
    world.lastAccepted += 2 + 2 * random(3);
    const number = world.lastAccepted;
    world.models.push({ number, phase: 'open', ours: 'open', sentBytes: 0, inner: undefined, readBytes: 0 });
    return record('A', number, u32(world.tcp), peerBytes(somebody));
  }
  const { number, phase, ours } = model;
  const over = phase === 'reset' || ours === 'reset' || (phase === 'ended' && ours === 'ended');
  if (over && phase !== 'gone' && random(2) === 0) {
    model.phase = 'gone';
    return record('G', number);
  }
  if (phase === 'open' && random(4) === 0) {
    model.phase = 'ended';
    return record('F', number);
  }
  if ((phase === 'open' || phase === 'ended') && random(6) === 0) {
    model.phase = 'reset';
    return record('R', number);
  }
  const most = Math.min(random(20) === 0 ? dataMax : 100, grantedTo(world, number) + creditBytes - model.sentBytes);
  if (phase !== 'open' || most < 1) return Buffer.alloc(0);
  const length = 1 + random(most);
  model.sentBytes += length;
  return record('D', number, Buffer.alloc(length));
}

/** What the runner has said reaches the gateway. */
function learn({ peer, models }: World): void {
  for (const model of models)
    for (const { kind, number } of peer.sent)
      if (number === model.number && (kind === 'R' || (kind === 'F' && model.ours === 'open')))
        model.ours = kind === 'R' ? 'reset' : 'ended';
}

function grantedTo({ peer }: World, connection: number): number {
  const grants = peer.sent.filter(({ kind, number }) => kind === 'W' && number === connection);
  return grants.reduce((sum, { rest }) => sum + rest.readUInt32LE(), 0);
}

/** The owner of the connections does something. */
function act(random: Random, { models }: World): void {
  const inner = models[random(models.length)]?.inner;
  if (inner === undefined || inner.destroyed) return;
  const what = random(5);
  if (what === 0) inner.end();
  else if (what === 1) inner.destroy();
  else if (what === 2) inner.reset();
  else if (!inner.writableEnded) inner.write(Buffer.alloc(1 + random(1000)));
}

function check({ models, datagrams, heard, peer }: World): void {
  if (peer.destroyed) throw new Error('the truth was not believed');
  if (heard !== datagrams) throw new Error(`${heard} of ${datagrams} datagrams`);
  for (const { inner, readBytes, sentBytes, number, phase } of models) {
    if (inner === undefined) throw new Error(`nobody was told of ${number}`);
    const read = readBytes + inner.readableLength;
    if (inner.destroyed ? read > sentBytes : read !== sentBytes) throw new Error(`${read} of ${sentBytes} bytes`);
    if (phase === 'reset' && !inner.destroyed) throw new Error(`${number} was reset, and goes on`);
  }
}

/** Cut anywhere. */
function send(random: Random, peer: GatewayPeer, bytes: Buffer): void {
  const style = random(3);
  for (let at = 0; at < bytes.length && !peer.destroyed;) {
    const length = style === 0 ? 60_000 : style === 1 && bytes.length < 2000 ? 1 + random(9) : 1 + random(20_000);
    peer.say(bytes.subarray(at, at + length));
    at += length;
  }
}

interface Lie {
  readonly name: string;
  /** `undefined` when it cannot be told now. */
  tell(random: Random, world: World): Buffer | undefined;
}

function about(
  name: string,
  is: (model: Model) => boolean,
  tell: (model: Model, random: Random, world: World) => Buffer,
): Lie {
  return {
    name,
    tell: (random, world) => {
      learn(world);
      const model = world.models.find(is);
      return model === undefined ? undefined : tell(model, random, world);
    },
  };
}

function always(name: string, tell: (random: Random, world: World) => Buffer): Lie {
  return { name, tell };
}

const known = 'LCADFRWGU';
const x = Buffer.from('x');

const lies: readonly Lie[] = [
  always('unknown kind', (random) => {
    const byte = random(256);
    return Buffer.from([known.includes(String.fromCharCode(byte)) ? 0 : byte]);
  }),
  always('giant length', (random) =>
    Buffer.from([known.charCodeAt(random(known.length)), 0, random(256), 2, random(256)]),
  ),
  always('length 2^31', (random) => Buffer.from([known.charCodeAt(random(known.length)), 0, 0, 0, 0x80])),
  always('zero length', (random) => Buffer.from([known.charCodeAt(random(known.length)), 0, 0, 0, 0])),
  always('a length too short', (random) => Buffer.from([known.charCodeAt(random(known.length)), random(4), 0, 0, 0])),
  always('a datagram too long', (_random, { udp }) => record('U', udp, peerBytes(somebody), Buffer.alloc(4097))),
  always('a datagram on TCP', (_random, { tcp }) => record('U', tcp, peerBytes(somebody), x)),
  always('a datagram on nothing', (random) => record('U', 3 + random(2 ** 31), peerBytes(somebody), x)),
  always('a connection on UDP', (_random, { udp, lastAccepted }) =>
    record('A', lastAccepted + 2, u32(udp), peerBytes(somebody)),
  ),
  always('a connection on nothing', (random, { lastAccepted }) =>
    record('A', lastAccepted + 2, u32(random(2) === 0 ? 0 : 3 + random(2 ** 31)), peerBytes(somebody)),
  ),
  always('an even connection', (random, { tcp, lastAccepted }) =>
    record('A', lastAccepted + 1 + 2 * random(1000), u32(tcp), peerBytes(somebody)),
  ),
  about(
    'a number once more',
    () => true,
    ({ number }, _random, { tcp }) => record('A', number, u32(tcp), peerBytes(somebody)),
  ),
  always('an answer about a listener that has one', (random, { tcp }) => record('L', tcp, u32(random(200)))),
  always('an answer about no listener', (random) => record('L', 3 + random(2 ** 31), u32(0))),
  always('an answer about no connect', (random) => record('C', 2 + 2 * random(2 ** 30), u32(random(200)))),
  always('no errno', (random, { tcp }) => record('L', tcp, u32(4096 + random(2 ** 31)))),
  ...(['D', 'F', 'R', 'G', 'W'] as const).map((kind) =>
    always(`${kind} of nobody`, (random, { lastAccepted }) =>
      record(kind, lastAccepted + 2 + random(1000), kind === 'D' ? x : kind === 'W' ? u32(1) : Buffer.alloc(0)),
    ),
  ),
  ...(['D', 'F', 'R', 'G', 'W'] as const).map((kind) =>
    about(
      `${kind} after G`,
      (model) => model.phase === 'gone',
      ({ number }) => record(kind, number, kind === 'D' ? x : kind === 'W' ? u32(1) : Buffer.alloc(0)),
    ),
  ),
  ...(['ended', 'reset'] as const).flatMap((phase) =>
    (['D', 'F'] as const).map((kind) =>
      about(
        `${kind} after it ${phase === 'ended' ? 'ended' : 'was reset'}`,
        (model) => model.phase === phase,
        ({ number }) => record(kind, number, kind === 'D' ? x : Buffer.alloc(0)),
      ),
    ),
  ),
  about(
    'a second reset',
    (model) => model.phase === 'reset',
    ({ number }) => record('R', number),
  ),
  about(
    'G while it is open',
    (model) => model.phase === 'open' && model.ours !== 'reset',
    ({ number }) => record('G', number),
  ),
  about(
    'G while it is half-open',
    (model) => model.phase === 'ended' && model.ours === 'open',
    ({ number }) => record('G', number),
  ),
  about(
    'no credit',
    (model) => model.phase !== 'gone',
    ({ number }) => record('W', number, u32(0)),
  ),
  about(
    'credit for what was never sent',
    (model) => model.phase !== 'gone',
    ({ number }, random, { peer }) => record('W', number, u32(peer.dataOf(number).length + 1 + random(2 ** 31))),
  ),
  about(
    'data beyond its credit',
    (model) => model.phase === 'open' && model.inner?.destroyed === false,
    ({ number, inner }) => {
      inner?.pause(); // nobody reads it, so nothing more is granted
      return Buffer.concat(Array.from({ length: 12 }, () => record('D', number, Buffer.alloc(dataMax))));
    },
  ),
];

type Random = (below: number) => number;

/** Mulberry32. */
function randomFrom(start: number): Random {
  let state = start;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

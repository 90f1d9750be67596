import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { CallWire, u64Bytes } from './call-wire.ts';
import { encodeFrame } from './frames.ts';
import { Link } from './link.ts';
import { fromSupervisor as from, toSupervisor, windowBytes } from './wire.ts';

/*
 * A hostile sandbox against the whole state machine. Each case says valid things for a while and then, in most cases, one
 * thing that the protocol forbids; what it is, where it comes and how the stream is cut is random. Replay a failure with
 * GLOVEBOX_FUZZ_SEED=<seed>; GLOVEBOX_FUZZ_CASES changes how many there are.
 */
const seed = Number(process.env['GLOVEBOX_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const cases = Number(process.env['GLOVEBOX_FUZZ_CASES'] ?? 100_000);

class Wire extends EventEmitter {
  writableNeedDrain = false;
  epoch = 0;
  nonce = Buffer.alloc(16);
  pings = 0;
  write(bytes: Buffer): boolean {
    if (bytes[2] === toSupervisor.hello) {
      this.nonce = Buffer.from(bytes.subarray(12, 28));
      this.epoch = this.nonce.readUInt32LE(0);
    }
    if (bytes[2] === toSupervisor.ping) this.pings++;
    return true;
  }
  destroy(): void {}
}

/** What the runner's side was told of one call, checked as it comes. */
class Ear {
  phase: 'spawning' | 'running' | 'exited' | 'ended' | 'refused' | 'cut' = 'spawning';
  bytes = 0;
  readonly wire: CallWire;
  constructor(link: Link, number: number, shape: { stdin: boolean; aux: boolean }) {
    this.wire = new CallWire(link, number, shape, {
      started: () => this.#move('running', 'spawning'),
      output: (_stream, bytes) => {
        this.#expect('running', 'exited');
        this.bytes += bytes.length;
        this.wire.acknowledge(this.bytes);
      },
      exited: () => this.#move('exited', 'running', 'spawning'),
      ended: () => {
        this.#move('ended', 'exited');
        this.wire.release();
      },
      refused: () => this.#move('refused', 'spawning'),
      tick: () => undefined,
      disconnected: () => this.#move('cut', 'spawning', 'running', 'exited'),
    });
  }
  #expect(...allowed: string[]): void {
    if (!allowed.includes(this.phase)) throw new Error(`told something while ${this.phase}`);
  }
  #move(to: Ear['phase'], ...allowed: string[]): void {
    this.#expect(...allowed);
    this.phase = to;
  }
}

/** The sandbox's own idea of a call. */
interface Model {
  number: number;
  stdin: boolean;
  aux: boolean;
  phase: 'spawning' | 'running' | 'exited' | 'gone';
  sent: number;
}

test(`${cases} hostile streams end with protocol_error and nothing else (seed ${seed})`, async () => {
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
  if (cases >= 10_000)
    expect([...kinds.keys()].sort()).toEqual([...lies.map((lie) => lie.name), 'truth', 'truncated'].sort());
}, 120_000);

async function oneCase(random: Random): Promise<string> {
  const wire = new Wire();
  const stream = { duplex: wire as unknown as Duplex, stderrTail: () => '' };
  const opening = Link.open(stream, { orphanMs: 1, timeoutMs: 10_000, pingEveryMs: 1_000_000 });
  wire.emit('data', encodeFrame(wire.epoch, from.welcome, 0, welcome(wire.nonce, 1, [])));
  const { link } = await opening;
  const models: Model[] = [];
  const ears = new Map<number, Ear>();
  for (let number = 1; number <= 1 + random(3); number++) {
    const model: Model = { number, stdin: random(2) === 0, aux: random(2) === 0, phase: 'spawning', sent: 0 };
    models.push(model);
    const ear = new Ear(link, number, model);
    ears.set(number, ear);
    void ear.wire.spawn([Buffer.alloc(1)]);
  }
  const parts: Buffer[] = [];
  for (let steps = random(12); steps > 0; steps--) parts.push(...truth(random, wire, models));
  const end = random(10);
  const lie = end === 0 ? undefined : lies[random(lies.length)];
  const forged = end <= 1 || lie === undefined ? undefined : lie.tell(random, wire, models);
  if (forged !== undefined) parts.push(forged);
  else if (end === 1) parts.push(encodeFrame(wire.epoch, from.out, 9, Buffer.alloc(60)).subarray(0, 1 + random(11)));
  const told = models.map((model) => model.sent);
  send(random, wire, Buffer.concat(parts));
  for (const [n, model] of models.entries()) {
    // All that was true before the lie has arrived.
    const ear = ears.get(model.number);
    if (ear?.bytes !== told[n]) throw new Error(`call ${model.number} got ${ear?.bytes} of ${told[n]} bytes`);
  }
  const code = link.end?.code;
  if (code !== (forged === undefined ? undefined : 'protocol_error'))
    throw new Error(`${lie?.name}: ended with ${code}: ${link.end?.message}`);
  if (forged !== undefined && [...ears.values()].some((ear) => !['ended', 'refused', 'cut'].includes(ear.phase)))
    throw new Error('a call was not told of the end');
  wire.emit('data', Buffer.alloc(40, 0xff));
  wire.emit('end');
  if (link.end === undefined) throw new Error('still there');
  return forged !== undefined && lie !== undefined ? lie.name : end === 1 ? 'truncated' : 'truth';
}

function send(random: Random, wire: Wire, bytes: Buffer): void {
  const style = random(3);
  for (let at = 0; at < bytes.length;) {
    const length = style === 0 ? bytes.length : style === 1 ? 1 + random(40) : 1 + random(2000);
    wire.emit('data', bytes.subarray(at, at + length));
    at += length;
  }
}

/** Something that an honest supervisor could say next. */
function truth(random: Random, wire: Wire, models: Model[]): Buffer[] {
  const model = models[random(models.length)];
  if (model === undefined) return [];
  const say = (type: number, payload: Uint8Array, flags = 0): Buffer =>
    encodeFrame(wire.epoch, type, model.number, payload, flags);
  switch (model.phase) {
    case 'spawning':
      if (random(8) === 0) {
        model.phase = 'gone';
        return [say(from.refused, Buffer.concat([Buffer.from([4, 0, 0, 0]), Buffer.from('no \u{1F41A}')]))];
      }
      if (random(8) === 0) {
        model.phase = 'exited';
        return [say(from.exit, exit(0, { kind: 2, stage: 4, code: 2 }))];
      }
      model.phase = 'running';
      return [say(from.started, Buffer.from([1 + random(200), 0, 0, 0]))];
    case 'running':
      if (random(4) === 0) {
        model.phase = 'exited';
        return [say(from.exit, exit(model.sent, { kind: random(2), stage: 0, code: 1 + random(60) }))];
      }
      if (random(6) === 0) return [say(from.stdinAck, u64Bytes(0), model.stdin ? random(2) : 1)];
      return [say(from.out, output(random, model))];
    case 'exited':
      if (random(2) === 0) return [say(from.out, output(random, model))];
      model.phase = 'gone';
      return [say(from.end, u64Bytes(model.sent))];
    case 'gone':
      return [];
  }
}

function output(random: Random, model: Model): Buffer {
  const length = random(50) === 0 ? 20_000 : 1 + random(60);
  const offset = model.sent;
  model.sent += length;
  return out(offset, 1 + random(model.aux ? 3 : 2), length);
}

interface Lie {
  readonly name: string;
  /** `undefined` when it cannot be told now. */
  tell(random: Random, wire: Wire, models: readonly Model[]): Buffer | undefined;
}

const alive = (models: readonly Model[], ...phases: string[]): Model | undefined =>
  models.find((model) => phases.includes(model.phase));

function about(
  name: string,
  type: number,
  phases: string[],
  payload: (model: Model, random: Random) => Buffer,
  flags = 0,
): Lie {
  return {
    name,
    tell(random, wire, models) {
      const model = alive(models, ...phases);
      return model && encodeFrame(wire.epoch, type, model.number, payload(model, random), flags);
    },
  };
}

function always(name: string, forge: (random: Random, wire: Wire, models: readonly Model[]) => Buffer): Lie {
  return { name, tell: forge };
}

const ones = (length: number): Buffer => Buffer.alloc(length, 0xff);
const fine = { kind: 0, stage: 0, code: 0 };

const lies: readonly Lie[] = [
  always('garbage', (random) =>
    Buffer.from(Array.from({ length: 12 + random(40) }, (_, n) => (n === 0 ? random(0x42) : random(256)))),
  ),
  always('giant length', (random, wire) =>
    patch(encodeFrame(wire.epoch, from.out, 1, Buffer.alloc(10)), 8, [0, random(256), 1 + random(255), random(256)]),
  ),
  always('length 2^31', (_random, wire) =>
    patch(encodeFrame(wire.epoch, from.out, 1, Buffer.alloc(10)), 8, [0, 0, 0, 0x80]),
  ),
  always('zero length', (_random, wire) => encodeFrame(wire.epoch, from.out, 1, Buffer.alloc(0))),
  always('unknown type', (random, wire) =>
    encodeFrame(wire.epoch, [0, 0x01, 0x0c, 0x7f, 0x80, 0x8a, 0xff][random(7)] ?? 0, 1, Buffer.alloc(10)),
  ),
  always('unknown flags', (random, wire) => encodeFrame(wire.epoch, from.out, 1, out(0, 1, 1), 1 + random(255))),
  always('another epoch', (random, wire) =>
    encodeFrame((wire.epoch ^ (1 + random(1000))) >>> 0, from.pong, 0, Buffer.alloc(8)),
  ),
  always('a stream frame for a call', (_random, wire) => encodeFrame(wire.epoch, from.pong, 1, Buffer.alloc(8))),
  always('a call frame for the stream', (_random, wire) => encodeFrame(wire.epoch, from.end, 0, Buffer.alloc(8))),
  always('unknown call', (random, wire) => encodeFrame(wire.epoch, from.out, 50 + random(2 ** 31), out(0, 1, 1))),
  always('PONG without PING', (random, wire) => encodeFrame(wire.epoch, from.pong, 0, u64Bytes(random(1000)))),
  always('LISTED without LIST', (_random, wire) => encodeFrame(wire.epoch, from.listed, 0, Buffer.alloc(4))),
  always('LISTED with a giant n', (_random, wire) => encodeFrame(wire.epoch, from.listed, 0, ones(4))),
  always('WELCOME again', (_random, wire) => encodeFrame(wire.epoch, from.welcome, 0, welcome(wire.nonce, 1, []))),
  always('WELCOME with a giant n', (_random, wire) =>
    encodeFrame(wire.epoch, from.welcome, 0, patch(welcome(wire.nonce, 1, []), 32, [255, 255, 255, 255])),
  ),
  about('STARTED twice', from.started, ['running', 'exited'], () => Buffer.from([9, 0, 0, 0])),
  about('STARTED with pid 0', from.started, ['spawning'], () => Buffer.alloc(4)),
  about('OUT before STARTED', from.out, ['spawning'], () => out(0, 1, 5)),
  about('OUT goes back', from.out, ['running', 'exited'], (model, random) =>
    out(model.sent === 0 ? 2 ** 40 : random(model.sent), 1, 5),
  ),
  about('OUT skips', from.out, ['running', 'exited'], (model, random) => out(model.sent + 1 + random(1000), 1, 5)),
  about('OUT at 2^64', from.out, ['running'], () => patch(out(0, 1, 5), 0, [255, 255, 255, 255, 255, 255, 255, 255])),
  about('OUT on no stream', from.out, ['running', 'exited'], (model, random) =>
    out(model.sent, random(2) === 0 ? 0 : 4 + random(200), 5),
  ),
  about('OUT without bytes', from.out, ['running'], (model) => out(model.sent, 1, 0)),
  {
    name: 'OUT on fd 3 unasked',
    tell: (_random, wire, models) => {
      const model = models.find((each) => !each.aux && ['running', 'exited'].includes(each.phase));
      return model && encodeFrame(wire.epoch, from.out, model.number, out(model.sent, 3, 5));
    },
  },
  about('EXIT twice', from.exit, ['exited'], (model) => exit(model.sent, fine)),
  about('EXIT before STARTED', from.exit, ['spawning'], () => exit(0, fine)),
  about('EXIT counts other output', from.exit, ['running'], (model, random) =>
    exit(model.sent + 1 + random(windowBytes), fine),
  ),
  about('EXIT of no kind', from.exit, ['running'], (model, random) =>
    exit(model.sent, { ...fine, kind: 3 + random(250) }),
  ),
  about('EXIT with no such code', from.exit, ['running'], (model, random) =>
    exit(model.sent, { ...fine, code: random(2) === 0 ? -1 - random(1000) : 256 + random(1000) }),
  ),
  about('EXIT with a stage', from.exit, ['running'], (model) => exit(model.sent, { ...fine, stage: 4 })),
  about('EXIT with a giant number', from.exit, ['running'], (model) => patch(exit(model.sent, fine), 8, [...ones(8)])),
  about('END before EXIT', from.end, ['spawning', 'running'], (model) => u64Bytes(model.sent)),
  about('END with another total', from.end, ['exited'], (model, random) => u64Bytes(model.sent + 1 + random(100))),
  about('END twice', from.end, ['gone'], (model) => u64Bytes(model.sent)),
  about('OUT after END', from.out, ['gone'], (model) => out(model.sent, 1, 5)),
  about('EXIT after END', from.exit, ['gone'], (model) => exit(model.sent, fine)),
  about('REFUSED too late', from.refused, ['running', 'exited', 'gone'], () => Buffer.alloc(8)),
  about('STDIN_ACK for what was never sent', from.stdinAck, ['running', 'exited'], (_model, random) =>
    u64Bytes(1 + random(2 ** 31)),
  ),
];

function patch(bytes: Buffer, at: number, values: readonly number[]): Buffer {
  Buffer.from(values).copy(bytes, at);
  return bytes;
}

function out(offset: number, stream: number, length: number): Buffer {
  return Buffer.concat([u64Bytes(offset), Buffer.from([stream]), Buffer.alloc(length, 0x61)]);
}

function exit(endBytes: number, of: { kind: number; stage: number; code: number }): Buffer {
  const payload = Buffer.alloc(64);
  payload[0] = of.kind;
  payload[2] = of.stage;
  payload.writeInt32LE(of.code, 4);
  u64Bytes(endBytes).copy(payload, 56);
  return payload;
}

function welcome(nonce: Buffer, version: number, entries: readonly Buffer[]): Buffer {
  return Buffer.concat([nonce, Buffer.from(new Uint32Array([version, 0, 0, 0, entries.length]).buffer), ...entries]);
}

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

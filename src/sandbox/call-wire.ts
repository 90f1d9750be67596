import type { RunnerError } from '../errors.ts';
import { parseExit, u64, type ExitRecord, type WelcomeCall } from './arrivals.ts';
import { broken, type Frame } from './frames.ts';
import type { CallReceiver, Link } from './link.ts';
import { StdinPipe } from './stdin-pipe.ts';
import { arrivals, fromSupervisor, toSupervisor, windowBytes } from './wire.ts';

/** What a call's owner is told, in this order: started, then output, exit, output of what was kept, end. */
export interface CallEvents {
  started(pid: number): void;
  output(stream: 'stdout' | 'stderr' | 'aux', bytes: Buffer): void;
  /** The same record is never told twice. */
  exited(record: ExitRecord): void;
  ended(): void;
  refused(reason: number, text: string): void;
  tick(nowMs: number): void;
  disconnected(reason: RunnerError): void;
}

export interface CallShape {
  readonly stdin: boolean;
  readonly aux: boolean;
  /** Instead of `stdin`: what the owner writes by itself. Such a call does not go on over another link. */
  readonly input?: CallInput;
}

/** What the wire tells of a call's input. */
export interface CallInput {
  acknowledged(offset: number, closed: boolean): void;
  /** No byte will be taken any more. */
  close(): void;
}

type Phase = 'spawning' | 'running' | 'exited' | 'ended';

const streams = [undefined, 'stdout', 'stderr', 'aux'] as const;

/**
 * One call as the wire sees it. Promises: output arrives once, without gaps, and never more than the window past what was
 * acknowledged; STARTED, EXIT and END come at most once and in order; a sandbox that says otherwise loses its link.
 */
export class CallWire implements CallReceiver {
  readonly number: number;
  readonly stdin: StdinPipe | undefined;
  readonly #shape: CallShape;
  readonly #input: CallInput | undefined;
  readonly #events: CallEvents;
  #link: Link;
  #phase: Phase = 'spawning';
  #nextBytes = 0;
  #ackedBytes = 0;
  #exit: Buffer | undefined;
  /** Of the life before: what may be said once more. */
  #repeats = { started: false, exit: false };
  #resumed = false;

  constructor(link: Link, number: number, shape: CallShape, events: CallEvents) {
    this.#link = link;
    this.number = number;
    this.#shape = shape;
    this.#events = events;
    this.stdin = shape.stdin ? new StdinPipe(link, number) : undefined;
    this.#input = shape.input ?? this.stdin;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The spec's pieces; the call's frames are taken from now on. */
  async spawn(spec: readonly Buffer[]): Promise<void> {
    this.#link.add(this.number, this);
    for (const [n, piece] of spec.entries()) {
      this.#link.send(toSupervisor.spawn, this.number, piece, n + 1 < spec.length ? 1 : 0);
      const full = this.#link.ready();
      if (full !== undefined) await full;
    }
  }

  /** The supervisor never heard of the call: says it again, over a new link. */
  async respawn(link: Link, spec: readonly Buffer[]): Promise<void> {
    this.#link = link;
    const spawned = this.spawn(spec);
    this.stdin?.resume(link, 0);
    await spawned;
  }

  /** Goes on over a new link, from the byte after `heldBytes`; they must be safe already. */
  resume(link: Link, entry: WelcomeCall, heldBytes: number): void {
    if (heldBytes < entry.ackedBytes || heldBytes > entry.endBytes)
      throw broken(
        `call ${this.number} goes on at ${entry.ackedBytes}..${entry.endBytes}, but ${heldBytes} bytes are here`,
      );
    this.#link = link;
    this.#nextBytes = heldBytes;
    this.#ackedBytes = heldBytes;
    this.#resumed = true;
    this.#repeats = { started: true, exit: this.#exit !== undefined };
    if (this.#phase === 'spawning') this.#phase = 'running';
    link.add(this.number, this);
    link.send(toSupervisor.resume, this.number, u64Bytes(heldBytes));
    if (entry.state !== 'running') this.stdin?.close();
    this.stdin?.resume(link, entry.stdinBytes); // also of one that takes no more: STDIN_ACK follows, and may say as much
  }

  /** Output below this offset is safe. */
  acknowledge(offset: number): void {
    if (offset <= this.#ackedBytes || offset > this.#nextBytes) return;
    this.#ackedBytes = offset;
    if (this.#phase !== 'ended') this.#send(toSupervisor.ack, u64Bytes(offset));
  }

  signal(signal: number, target: 'tree' | 'foreground'): void {
    const payload = Buffer.alloc(5);
    payload.writeUInt32LE(signal, 0);
    payload[4] = target === 'tree' ? 0 : 1;
    this.#send(toSupervisor.signal, payload);
  }

  kill(graceMs: number, cause: number): void {
    const payload = Buffer.alloc(5);
    payload.writeUInt32LE(graceMs, 0);
    payload[4] = cause;
    this.#send(toSupervisor.kill, payload);
  }

  resize(columns: number, rows: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt16LE(columns, 0);
    payload.writeUInt16LE(rows, 2);
    this.#send(toSupervisor.resize, payload);
  }

  /** The call is over and safe: both sides forget it. */
  release(): void {
    this.#link.sendLazily(toSupervisor.release, this.number, Buffer.alloc(0));
    this.#link.remove(this.number, this.#input !== undefined);
  }

  accept(frame: Frame): void {
    switch (frame.type) {
      case fromSupervisor.out:
        return this.#acceptOut(frame.payload);
      case fromSupervisor.started:
        return this.#acceptStarted(frame.payload);
      case fromSupervisor.stdinAck:
        return this.#acceptStdinAck(frame);
      case fromSupervisor.exit:
        return this.#acceptExit(frame.payload);
      case fromSupervisor.end:
        return this.#acceptEnd(frame.payload);
      case fromSupervisor.refused:
        return this.#acceptRefused(frame.payload);
      default:
        throw this.#odd(frame.type);
    }
  }

  tick(nowMs: number): void {
    this.#events.tick(nowMs);
  }

  disconnected(reason: RunnerError): void {
    this.#events.disconnected(reason);
  }

  #acceptOut(payload: Buffer): void {
    if (this.#phase === 'spawning' || this.#phase === 'ended') throw this.#odd(fromSupervisor.out);
    const offset = u64(payload, 0);
    const stream = streams[payload.readUInt8(8)];
    const bytes = payload.subarray(9);
    if (offset !== this.#nextBytes)
      throw broken(`OUT at ${offset} of call ${this.number} instead of ${this.#nextBytes}`);
    if (stream === undefined || (stream === 'aux' && !this.#shape.aux)) throw broken(`OUT on stream ${payload[8]}`);
    if (offset + bytes.length - this.#ackedBytes > windowBytes) throw broken('OUT past the window');
    this.#nextBytes += bytes.length;
    this.#events.output(stream, bytes);
  }

  #acceptStarted(payload: Buffer): void {
    if (this.#phase !== 'spawning' && !this.#repeats.started) throw this.#odd(fromSupervisor.started);
    if (this.#phase === 'ended' || payload.readUInt32LE(0) === 0) throw this.#odd(fromSupervisor.started);
    this.#repeats.started = false;
    if (this.#phase === 'spawning') this.#phase = 'running';
    this.#events.started(payload.readUInt32LE(0));
  }

  #acceptStdinAck(frame: Frame): void {
    const offset = u64(frame.payload, 0);
    const closed = (frame.flags & 1) !== 0;
    if (this.#input !== undefined) this.#input.acknowledged(offset, closed);
    else if (offset !== 0 || !closed) throw this.#odd(fromSupervisor.stdinAck);
  }

  #acceptExit(payload: Buffer): void {
    if (this.#exit !== undefined) {
      if (!this.#repeats.exit || !payload.equals(this.#exit)) throw this.#odd(fromSupervisor.exit);
      this.#repeats.exit = false;
      return;
    }
    const record = parseExit(payload);
    if (this.#phase === 'spawning' ? record.kind !== 'not_started' : this.#phase !== 'running')
      throw this.#odd(fromSupervisor.exit);
    const exact = record.endBytes === this.#nextBytes;
    if (!exact && (!this.#resumed || record.endBytes > this.#nextBytes))
      throw broken('EXIT with another output offset');
    this.#exit = Buffer.from(payload);
    this.#phase = 'exited';
    this.#input?.close();
    this.#events.exited(record);
  }

  #acceptEnd(payload: Buffer): void {
    if (this.#phase !== 'exited' || this.#repeats.exit) throw this.#odd(fromSupervisor.end);
    if (u64(payload, 0) !== this.#nextBytes) throw broken('END with another total');
    this.#phase = 'ended';
    this.#events.ended();
  }

  #acceptRefused(payload: Buffer): void {
    if (this.#phase !== 'spawning') throw this.#odd(fromSupervisor.refused);
    this.#phase = 'ended';
    this.#link.remove(this.number, this.#input !== undefined);
    this.#input?.close();
    this.#events.refused(payload.readUInt32LE(0), payload.toString('utf8', 4));
  }

  #send(type: number, payload: Buffer): void {
    if (this.#phase !== 'ended') this.#link.send(type, this.number, payload);
  }

  #odd(type: number): RunnerError {
    return broken(`${arrivals.get(type)?.name ?? type} of call ${this.number} while it is ${this.#phase}`);
  }
}

export function u64Bytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32LE(value % 4_294_967_296, 0);
  bytes.writeUInt32LE(Math.floor(value / 4_294_967_296), 4);
  return bytes;
}

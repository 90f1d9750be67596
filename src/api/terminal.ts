import { Duplex } from 'node:stream';
import { z } from 'zod';
import type { RawData, WebSocket } from 'ws';
import { newId } from '../ids.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { RunningCall } from '../sandbox/call.ts';
import type { CallOutput } from '../service/call-output.ts';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import { SignalField } from '../tools/calls/fields.ts';
import { constants } from 'node:os';

const Control = z.union([
  z.strictObject({
    resize: z.strictObject({ columns: z.int().min(1).max(1000), rows: z.int().min(1).max(1000) }),
  }),
  z.strictObject({ signal: SignalField }),
  z.strictObject({ close: z.literal(true) }),
]);
type Control = z.infer<typeof Control>;

export interface TerminalPlace {
  readonly run: string;
  readonly callId: string;
  /** Of its output. */
  readonly offset: number;
}

const pieceBytes = 32_768;
const waitMs = 15_000;
const startWaitMs = 10_000;
/** What a peer may owe us before nothing more is read for it. */
const unsentMax = 262_144;
/** What a peer may have typed that its command has not read. */
const unreadMax = 2_097_152;
/** Of an input, beside its bytes. */
const inputBytes = 1_024;

/**
 * One person at the terminal of a command. Attaching is a tool call of its own (`exec_write` of nothing), so policy and budget
 * are asked and the journal has it; what is typed is not recorded, as at any terminal.
 */
export class Terminal {
  readonly #command: Pick<RunningCall, 'write' | 'resize' | 'signal' | 'closeStdin' | 'ended'>;
  readonly #output: CallOutput;
  #offset: number;
  #typing: Promise<void> = Promise.resolve();
  #unread = 0;
  #gone = false;

  private constructor(
    command: Pick<RunningCall, 'write' | 'resize' | 'signal' | 'closeStdin' | 'ended'>,
    output: CallOutput,
    offset: number,
  ) {
    this.#command = command;
    this.#output = output;
    this.#offset = offset;
  }

  /** Throws what `CallDesk.make` does, and `policy_denied` where nothing may be typed. */
  static async attach(
    service: Service,
    principal: Principal,
    { run, callId, offset }: TerminalPlace,
  ): Promise<Terminal> {
    const { run: opened } = service.find(principal, run, 'call');
    const never = new AbortController().signal;
    const output = await service.calls.output(principal, run, callId, { waitMs: startWaitMs, signal: () => never });
    const command = opened.findCommand(callId);
    if (command === undefined)
      throw new RunnerError('call_not_found', `call ${callId} of run ${run} does not run any more`);
    const result = await service.calls.make(principal, run, `pty-${newId()}`, { tool: 'exec_write', callId });
    if (result.error !== null)
      throw new RunnerError('policy_denied', `the terminal of call ${callId} cannot be used: ${result.error.message}`);
    return new Terminal(command, output, offset);
  }

  /** Until the command ends or the peer leaves, which ends nothing. */
  carry(socket: WebSocket, onError: (error: unknown) => void): void {
    socket.on('message', (data, isBinary) => this.#take(socket, data, isBinary));
    socket.on('close', () => {
      this.#gone = true;
    });
    this.#show(socket).catch((error: unknown) => {
      onError(error);
      socket.close(1011, 'the output cannot be read');
    });
  }

  /** The same without frames, for this process: it ends with the command, and whoever leaves it ends nothing. */
  stream(): Duplex {
    const stream: Duplex = new Duplex({
      read: () => {
        this.#next().then(
          (bytes) => stream.push(bytes),
          (error: unknown) => stream.destroy(new Error(messageOf(error))),
        );
      },
      write: (bytes: Buffer, _, done) => {
        const written = this.#command.write(bytes).catch(() => undefined); // it has ended, which the reader is told
        void written.finally(done);
      },
    });
    stream.once('close', () => {
      this.#gone = true;
    });
    return stream;
  }

  /** null at the end. */
  async #next(): Promise<Buffer | null> {
    while (!this.#gone) {
      const { bytes, nextOffset, ended } = await this.#output.read(this.#offset, pieceBytes, 'merged', waitMs);
      this.#offset = nextOffset;
      if (bytes.length > 0) return bytes;
      if (ended) return null;
    }
    return null;
  }

  async #show(socket: WebSocket): Promise<void> {
    while (!this.#gone) {
      const { bytes, nextOffset, ended } = await this.#output.read(this.#offset, pieceBytes, 'merged', waitMs);
      this.#offset = nextOffset;
      if (bytes.length > 0) await sendBounded(socket, bytes);
      if (ended) return socket.close(1000, JSON.stringify({ nextOffset, exitCode: this.#output.exitCode }));
    }
  }

  #take(socket: WebSocket, data: RawData, isBinary: boolean): void {
    if (isBinary) this.#type(socket, bytesOf(data));
    else {
      const control = Control.safeParse(parseJson(bytesOf(data).toString('utf8')));
      if (control.success) this.#obey(socket, control.data);
      else socket.close(1007, 'a text frame is a control: resize, signal or close');
    }
  }

  /** In order; a peer that types faster than the command reads is held up. */
  #type(socket: WebSocket, bytes: Buffer): void {
    this.#queue(socket, bytes.length, () => this.#command.write(bytes));
  }

  #queue(socket: WebSocket, bytes: number, work: () => Promise<void>): void {
    this.#unread += bytes + inputBytes;
    if (this.#unread >= unreadMax) socket.pause();
    this.#typing = this.#typing
      .then(work)
      .catch(() => undefined) // it has ended, which the peer is told by the socket's end
      .finally(() => {
        this.#unread -= bytes + inputBytes;
        if (socket.isPaused && this.#unread < unreadMax) socket.resume();
      });
  }

  #obey(socket: WebSocket, control: Control): void {
    try {
      if ('resize' in control) this.#command.resize(control.resize.columns, control.resize.rows);
      else if ('signal' in control) this.#command.signal(constants.signals[`SIG${control.signal}`], 'foreground');
      else this.#queue(socket, 0, () => this.#command.closeStdin());
    } catch (error) {
      socket.close(1007, messageOf(error).slice(0, 100));
    }
  }
}

/** Resolves when the peer owes us no more than a bound; whoever takes nothing is cut off by the pings. */
async function sendBounded(socket: WebSocket, bytes: Buffer): Promise<void> {
  const sent = new Promise<void>((resolve) => socket.send(bytes, { binary: true }, () => resolve()));
  if (socket.bufferedAmount > unsentMax) await sent;
}

function bytesOf(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

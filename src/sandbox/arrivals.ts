import type { PipesOfPid1 } from '../engine/engine.ts';
import { broken } from './frames.ts';
import { listedEntryBytes, offerBytes, windowBytes, welcomeBytes, welcomeEntryBytes } from './wire.ts';

/** The payloads that arrive, read strictly: whatever docs/protocol.md does not allow throws `protocol_error`. */

export interface Welcome {
  readonly version: number;
  readonly pidsHits: number;
  readonly oomKills: number;
  readonly calls: readonly WelcomeCall[];
  /** Where PID 1 would go on with the stream, if HELLO asked for it. */
  readonly pipes: PipesOfPid1 | undefined;
}

export interface WelcomeCall {
  readonly call: number;
  readonly state: CallState;
  readonly ackedBytes: number;
  readonly endBytes: number;
  readonly stdinBytes: number;
}

export type CallState = 'running' | 'leader_exited' | 'ended';

export function parseWelcome(payload: Buffer, nonce: Buffer): Welcome {
  if (!payload.subarray(0, 16).equals(nonce)) throw broken('WELCOME answers another HELLO');
  const version = payload.readUInt32LE(16);
  const flags = payload.readUInt32LE(20);
  const count = payload.readUInt32LE(32);
  const end = welcomeBytes + count * welcomeEntryBytes;
  if (flags > 1) throw broken(`WELCOME with flags ${flags}`);
  if (payload.length !== end + flags * offerBytes) throw broken(`WELCOME announces ${count} calls`);
  const calls: WelcomeCall[] = [];
  const seen = new Set<number>();
  for (let at = welcomeBytes; at < end; at += welcomeEntryBytes) {
    const entry = {
      call: uniqueCall(payload.readUInt32LE(at), seen),
      state: callState(payload, at + 4),
      ackedBytes: u64(payload, at + 8),
      endBytes: u64(payload, at + 16),
      stdinBytes: u64(payload, at + 24),
    };
    if (entry.ackedBytes > entry.endBytes || entry.endBytes - entry.ackedBytes > windowBytes)
      throw broken('WELCOME with offsets that cannot be');
    calls.push(entry);
  }
  const pipes = flags === 0 ? undefined : parseOffer(payload.subarray(end));
  return { version, pidsHits: payload.readUInt32LE(24), oomKills: payload.readUInt32LE(28), calls, pipes };
}

function parseOffer(offer: Buffer): PipesOfPid1 {
  return {
    in: { fd: offer.readUInt32LE(0), inode: u64(offer, 8) },
    out: { fd: offer.readUInt32LE(4), inode: u64(offer, 16) },
  };
}

export interface ListedProcesses {
  readonly call: number;
  readonly state: CallState;
  readonly pid: number;
  readonly processes: number;
  readonly outputBytes: number;
}

export function parseListed(payload: Buffer): readonly ListedProcesses[] {
  const count = payload.readUInt32LE(0);
  if (payload.length !== 4 + count * listedEntryBytes) throw broken(`LISTED announces ${count} calls`);
  const listed: ListedProcesses[] = [];
  const seen = new Set<number>();
  for (let at = 4; at < payload.length; at += listedEntryBytes) {
    listed.push({
      call: uniqueCall(payload.readUInt32LE(at), seen),
      state: callState(payload, at + 4),
      pid: payload.readUInt32LE(at + 8),
      processes: payload.readUInt32LE(at + 12),
      outputBytes: u64(payload, at + 16),
    });
  }
  return listed;
}

/** EXIT, as it was sent. */
export interface ExitRecord {
  readonly kind: 'exited' | 'signaled' | 'not_started';
  readonly cause: 'none' | 'timed_out' | 'idle' | 'cancelled' | 'output_limit' | 'orphaned';
  readonly stage: 'none' | 'spec' | 'resources' | 'cwd' | 'exec';
  readonly full: { readonly workspace: boolean; readonly tmp: boolean; readonly home: boolean };
  readonly code: number;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
  readonly descendants: number;
  readonly killed: number;
  /** `undefined` where the sandbox could not count. */
  readonly oomKills: number | undefined;
  readonly pidsHits: number | undefined;
  readonly endBytes: number;
}

const exitKinds = ['exited', 'signaled', 'not_started'] as const;
const exitCauses = ['none', 'timed_out', 'idle', 'cancelled', 'output_limit', 'orphaned'] as const;
const exitStages = ['none', 'spec', 'resources', 'cwd', 'exec'] as const;
const codeMax = { exited: 255, signaled: 127, not_started: 4095 } as const;

export function parseExit(payload: Buffer): ExitRecord {
  const kind = exitKinds[payload.readUInt8(0)];
  const cause = exitCauses[payload.readUInt8(1)];
  const stage = exitStages[payload.readUInt8(2)];
  const full = payload.readUInt8(3);
  const code = payload.readInt32LE(4);
  if (kind === undefined || cause === undefined || stage === undefined || full > 7)
    throw broken('EXIT with a field out of range');
  if (code < (kind === 'exited' ? 0 : 1) || code > codeMax[kind]) throw broken(`EXIT ${kind} with code ${code}`);
  if ((kind === 'not_started') !== (stage !== 'none')) throw broken(`EXIT ${kind} at stage ${stage}`);
  return {
    kind,
    cause,
    stage,
    full: { workspace: (full & 1) !== 0, tmp: (full & 2) !== 0, home: (full & 4) !== 0 },
    code,
    wallMs: u64(payload, 8) / 1000,
    cpuMs: (u64(payload, 16) + u64(payload, 24)) / 1000,
    maxRssBytes: u64(payload, 32),
    descendants: payload.readUInt32LE(40),
    killed: payload.readUInt32LE(44),
    oomKills: known(payload.readUInt32LE(48)),
    pidsHits: known(payload.readUInt32LE(52)),
    endBytes: u64(payload, 56),
  };
}

/** An offset or a count: what does not fit a double exactly was never true. */
export function u64(payload: Buffer, at: number): number {
  const value = payload.readUInt32LE(at) + payload.readUInt32LE(at + 4) * 4_294_967_296;
  if (value > Number.MAX_SAFE_INTEGER) throw broken('a number beyond 2^53');
  return value;
}

const callStates: ReadonlyMap<number, CallState> = new Map([
  [1, 'running'],
  [2, 'leader_exited'],
  [3, 'ended'],
]);

/** u8 state and three zeros. */
function callState(payload: Buffer, at: number): CallState {
  const state = callStates.get(payload.readUInt32LE(at));
  if (state === undefined) throw broken('a call in no known state');
  return state;
}

function uniqueCall(call: number, seen: Set<number>): number {
  if (call === 0 || seen.has(call)) throw broken(`call ${call} listed twice or numbered 0`);
  seen.add(call);
  return call;
}

function known(count: number): number | undefined {
  return count === 0xffffffff ? undefined : count;
}

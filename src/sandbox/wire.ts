/** The numbers of docs/protocol.md, version 1. */

export const protocolVersion = 1;
export const magic = 0x4742;
export const headerBytes = 12;
export const trailerBytes = 4;
export const payloadMax = 65_536;
/** Completes whatever half frame a runner that died left in the pipe. */
export const paddingBytes = headerBytes + payloadMax + trailerBytes;
/** How far output runs ahead of ACK, and stdin ahead of STDIN_ACK. */
export const windowBytes = 262_144;
/** Calls that a supervisor holds at once (64): commands, short file verbs, walks, a gateway, a probe. Each kind has its share. */
export const commandsMax = 54;
export const verbsMax = 4;
export const walksMax = 4;
export const specMax = 8 * 1024 * 1024;

export const toSupervisor = {
  hello: 0x01,
  ping: 0x02,
  spawn: 0x03,
  stdin: 0x04,
  ack: 0x05,
  resume: 0x06,
  signal: 0x07,
  kill: 0x08,
  resize: 0x09,
  release: 0x0a,
  list: 0x0b,
  shutdown: 0x0c,
} as const;

export const fromSupervisor = {
  welcome: 0x81,
  pong: 0x82,
  started: 0x83,
  out: 0x84,
  stdinAck: 0x85,
  exit: 0x86,
  end: 0x87,
  listed: 0x88,
  refused: 0x89,
} as const;

const exitBytes = 64;
export const welcomeBytes = 36;
export const welcomeEntryBytes = 32;
/** What WELCOME adds when it offers pipes. */
export const offerBytes = 24;
export const listedEntryBytes = 24;
/** Longest text that a REFUSED may carry. */
const refusedTextMax = 4096;

/** What may arrive, and how long it may be: a header that says otherwise is refused before its payload is waited for. */
export interface FrameRule {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly ofCall: boolean;
  readonly flags: number;
}

export const arrivals: ReadonlyMap<number, FrameRule> = new Map([
  [fromSupervisor.welcome, { name: 'WELCOME', min: welcomeBytes, max: payloadMax, ofCall: false, flags: 0 }],
  [fromSupervisor.pong, { name: 'PONG', min: 8, max: 8, ofCall: false, flags: 0 }],
  [fromSupervisor.started, { name: 'STARTED', min: 4, max: 4, ofCall: true, flags: 0 }],
  [fromSupervisor.out, { name: 'OUT', min: 10, max: payloadMax, ofCall: true, flags: 0 }],
  [fromSupervisor.stdinAck, { name: 'STDIN_ACK', min: 8, max: 8, ofCall: true, flags: 1 }],
  [fromSupervisor.exit, { name: 'EXIT', min: exitBytes, max: exitBytes, ofCall: true, flags: 0 }],
  [fromSupervisor.end, { name: 'END', min: 8, max: 8, ofCall: true, flags: 0 }],
  [fromSupervisor.listed, { name: 'LISTED', min: 4, max: payloadMax, ofCall: false, flags: 0 }],
  [fromSupervisor.refused, { name: 'REFUSED', min: 4, max: 4 + refusedTextMax, ofCall: true, flags: 0 }],
]);

export const tags = {
  argv: 1,
  env: 2,
  cwd: 3,
  script: 4,
  killAfterMs: 5,
  idleMs: 6,
  graceMs: 7,
  drainMs: 8,
  descendants: 9,
  stdin: 10,
  tty: 11,
  verb: 12,
  aux: 13,
  umask: 14,
  user: 15,
  path: 20,
  flags: 21,
  offset: 22,
  length: 23,
  mode: 24,
  ifMatch: 25,
  prune: 26,
  depthMax: 27,
  entriesMax: 28,
  contentBytesMax: 29,
  fileBytesMax: 30,
  to: 31,
  probe: 40,
} as const;

export const verbs = {
  stat: 1,
  read: 2,
  write: 3,
  walk: 4,
  mkdir: 5,
  move: 6,
  remove: 7,
  unpack: 8,
  gateway: 9,
  probe: 10,
} as const;

export const killCause = { timedOut: 1, idle: 2, cancelled: 3, outputLimit: 4, orphaned: 5 } as const;

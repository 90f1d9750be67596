export interface HelloParts {
  /** `null`: without SNI. */
  readonly name?: string | null;
  readonly extensions?: readonly (readonly [type: number, data: Buffer])[];
  readonly sessionId?: Buffer;
  readonly version?: number;
  readonly ciphers?: Buffer;
  /** Behind the last extension. */
  readonly trailing?: Buffer;
}

/** A handshake message ClientHello, without a record around it. */
export function helloMessage(parts: HelloParts = {}): Buffer {
  const { name = 'allowed.test', extensions = [], sessionId = Buffer.alloc(32, 7), version = 0x0303 } = parts;
  const all = [...(name === null ? [] : [[0, serverNames(name)] as const]), ...extensions];
  const body = Buffer.concat([
    number(2, version),
    Buffer.alloc(32, 1),
    vector(1, sessionId),
    vector(2, parts.ciphers ?? Buffer.from([0x13, 1, 0xc0, 0x2b])),
    vector(1, Buffer.from([0])),
    vector(2, Buffer.concat(all.map(([type, data]) => Buffer.concat([number(2, type), vector(2, data)])))),
    parts.trailing ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([Buffer.from([1]), vector(3, body)]);
}

export function serverNames(...names: readonly string[]): Buffer {
  const entries = names.map((name) => Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(name))]));
  return vector(2, Buffer.concat(entries));
}

/** In records of so many bytes each (or of these sizes, in turn). */
export function inRecords(message: Buffer, ...sizes: readonly number[]): Buffer {
  const records: Buffer[] = [];
  for (let at = 0, turn = 0; at < message.length; turn++) {
    const size = sizes.length === 0 ? 16_384 : (sizes[turn % sizes.length] ?? 1);
    const fragment = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1]), vector(2, fragment));
    at += fragment.length;
  }
  return Buffer.concat(records);
}

export function vector(lengthBytes: number, data: Buffer): Buffer {
  return Buffer.concat([number(lengthBytes, data.length), data]);
}

function number(bytes: number, value: number): Buffer {
  const encoded = Buffer.alloc(bytes);
  encoded.writeUIntBE(value, 0, bytes);
  return encoded;
}

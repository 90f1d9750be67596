/** Response codes, RFC 1035 4.1.1. */
export const rcode = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5 } as const;
export const recordType = { a: 1, ptr: 12, any: 255 } as const;

export interface Question {
  readonly id: number;
  /** The flags it came with; what a reply repeats of them is repeated. */
  readonly flags: number;
  /** In lower case, without the dot at its end. `undefined` when it is none a host could have. */
  readonly name: string | undefined;
  readonly type: number;
  /** Of the Internet (or any). */
  readonly internet: boolean;
  /** Just as it was asked: a resolver may compare the case of every letter (0x20). */
  readonly bytes: Buffer;
  readonly edns: 'none' | 'known' | 'unknown_version';
}

export type Query =
  | { readonly kind: 'question'; readonly question: Question }
  /** Nothing that could be answered as a question; `reply` says so. */
  | { readonly kind: 'malformed'; readonly reply: Buffer }
  /** A response, or too short to have an id: answering would only make noise. */
  | { readonly kind: 'ignored' };

const headerBytes = 12;
const opt = 41;
const badVersion = 16;
const udpPayloadBytes = 1_232;

/**
 * Reads one query; never throws. Written here, not taken from a library, because a reply has to repeat the question to
 * the byte, and decoding to a string and back does not (case is kept, bytes beyond ASCII and dots inside a label are not).
 */
export function readQuery(message: Buffer): Query {
  if (message.length < headerBytes || (message.readUInt16BE(2) & 0x8000) !== 0) return { kind: 'ignored' };
  const flags = message.readUInt16BE(2);
  const malformed = (code: number): Query => ({
    kind: 'malformed',
    reply: header(message.readUInt16BE(0), flags, code, 0),
  });
  if ((flags & 0x7800) !== 0) return malformed(rcode.notImp);
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0) return malformed(rcode.formErr);
  const labels = readLabels(message, headerBytes);
  if (labels === undefined || labels.end + 4 > message.length) return malformed(rcode.formErr);
  const end = labels.end + 4;
  const internet = [1, 255].includes(message.readUInt16BE(labels.end + 2));
  const question: Question = {
    id: message.readUInt16BE(0),
    flags,
    name: labels.name,
    type: message.readUInt16BE(labels.end),
    internet,
    bytes: message.subarray(headerBytes, end),
    edns: additionals === 0 ? 'none' : readEdns(message.subarray(end)),
  };
  return { kind: 'question', question };
}

/** An answer is an address (A) or a name (PTR). */
export interface Answer {
  readonly type: typeof recordType.a | typeof recordType.ptr;
  readonly ttlSeconds: number;
  readonly data: Buffer;
}

export function reply(question: Question, code: number, answers: readonly Answer[] = []): Buffer {
  const unknown = question.edns === 'unknown_version';
  const records = (unknown ? [] : answers).map(({ type, ttlSeconds, data }) => {
    const head = Buffer.from([0xc0, headerBytes, 0, type, 0, 1, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32BE(ttlSeconds, 6);
    head.writeUInt16BE(data.length, 10);
    return Buffer.concat([head, data]);
  });
  const head = header(question.id, question.flags, unknown ? rcode.noError : code, 1);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt16BE(question.edns === 'none' ? 0 : 1, 10);
  const edns = Buffer.from([0, 0, opt, 0, 0, unknown ? badVersion >> 4 : 0, 0, 0, 0, 0, 0]);
  edns.writeUInt16BE(udpPayloadBytes, 3);
  return Buffer.concat([head, question.bytes, ...records, ...(question.edns === 'none' ? [] : [edns])]);
}

export function encodeName(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.from([0])]);
}

/** RA set, RD and CD as asked. */
function header(id: number, flags: number, code: number, questions: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt16BE(0x8080 | (flags & 0x7910) | code, 2);
  bytes.writeUInt16BE(questions, 4);
  return bytes;
}

/** A question is the first name of a message: there is nothing that a pointer in it could point to. */
function readLabels(message: Buffer, start: number): { name: string | undefined; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63 || at - start > 254) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > message.length) return undefined;
    labels.push(message.toString('latin1', at, at + length).toLowerCase());
    at += length;
  }
  if (at - start > 255) return undefined;
  const plain = labels.length > 0 && labels.every((label) => /^[a-z0-9_-]+$/.test(label));
  return { name: plain ? labels.join('.') : undefined, end: at };
}

/** Only as the first additional record, where every client puts it. */
function readEdns(additional: Buffer): Question['edns'] {
  if (additional.length < 11 || additional[0] !== 0 || additional.readUInt16BE(1) !== opt) return 'none';
  return additional[6] === 0 ? 'known' : 'unknown_version';
}

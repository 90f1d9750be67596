import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { decode, encode, type Answer, type Question } from 'dns-packet';

/** What a name is at the n-th time it is asked (from 0): addresses, a code, or silence. */
export type Zone = (
  name: string,
  type: string,
  times: number,
) => readonly string[] | 'NXDOMAIN' | 'SERVFAIL' | 'silence';

const codes = { NXDOMAIN: 3, SERVFAIL: 2 } as const;

/** A small resolver on loopback that answers what the test says and remembers every question. */
export class DnsServer {
  readonly #socket: Socket = createSocket('udp4');
  readonly #zone: Zone;
  readonly asked: string[] = [];
  address = '';

  constructor(zone: Zone) {
    this.#zone = zone;
  }

  async open(): Promise<this> {
    this.#socket.on('message', (message, peer) => {
      const answer = this.#answer(message);
      if (answer !== undefined) this.#socket.send(answer, peer.port, peer.address);
    });
    this.#socket.bind(0, '127.0.0.1');
    await once(this.#socket, 'listening');
    this.address = `127.0.0.1:${this.#socket.address().port}`;
    return this;
  }

  close(): void {
    this.#socket.close();
  }

  #answer(message: Buffer): Buffer | undefined {
    const { id, questions = [] } = decode(message);
    const [question] = questions;
    if (question === undefined || id === undefined) return undefined;
    const key = `${question.name} ${question.type}`;
    const found = this.#zone(question.name, question.type, this.asked.filter((asked) => asked === key).length);
    this.asked.push(key);
    if (found === 'silence') return undefined;
    if (typeof found === 'string') return encode({ type: 'response', id, flags: codes[found], questions: [question] });
    return encode({ type: 'response', id, questions: [question], answers: recordsOf(question, found) });
  }
}

/** TTL 0: nobody may remember them. */
function recordsOf({ name, type }: Question, addresses: readonly string[]): Answer[] {
  if (type !== 'A' && type !== 'AAAA') return [];
  return addresses
    .filter((address) => address.includes(':') === (type === 'AAAA'))
    .map((data) => ({ name, type, ttl: 0, data }));
}

import type { Duplex } from 'node:stream';

/** One connection from inside, and what it asks for. */
export interface Conversation {
  readonly inner: Duplex;
  /** In lower case, without a dot at the end; an address where the client named one. */
  readonly host: string;
  readonly port: number;
  /** The tool call that it belongs to, where that is certain. */
  readonly callId: string | undefined;
  /** `name`: to the synthetic address of a name; `proxy`: through the loopback proxy. */
  readonly via: 'name' | 'proxy';
}

/** Carries one conversation to its end, whatever it is; never rejects. The connection is closed when it resolves. */
export type Carry = (conversation: Conversation) => Promise<void>;

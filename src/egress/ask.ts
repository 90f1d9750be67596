import { clean } from './clean.ts';
import type { Conversation } from './conversation.ts';
import type { DeniedThing } from './denials.ts';
import type { EgressDecided } from './record.ts';

/** What is asked for, apart from the connection that asks. */
export type Ask = Pick<Conversation, 'host' | 'port' | 'callId' | 'via'>;

export interface RequestAsk {
  readonly method: string;
  readonly url: URL;
  readonly websocket: boolean;
}

/** All that is judged, recorded and told of one decision. */
export interface Question {
  readonly kind: 'name' | 'connection' | 'request';
  readonly ask: Ask;
  /** Of kind `request`. */
  readonly request?: RequestAsk | undefined;
}

/** What stands in the record of it. The query is left out: it may hold a secret. */
export function recorded({ kind, ask, request }: Question): Omit<EgressDecided, 'id' | 'decision' | 'rule' | 'reason'> {
  const { host, port, callId, via } = ask;
  return {
    kind,
    via,
    ...(callId === undefined ? {} : { callId }),
    host: clean(host, 255),
    ...(kind === 'name' ? {} : { port }),
    ...(request === undefined ? {} : target(request)),
  };
}

/** What a tool call is told of it when it is refused. */
export function deniedThing({ kind, ask, request }: Question): Omit<DeniedThing, 'reason' | 'hint'> {
  const { host, port } = ask;
  return {
    host,
    ...(kind === 'name' ? {} : { port }),
    ...(request === undefined ? {} : { method: request.method, path: request.url.pathname }),
  };
}

/** A request is judged by its URL and carried to where its connection asked to go: they have to be one. */
export function isOwnTarget({ ask, request }: Question): boolean {
  if (request === undefined) return true;
  const { protocol, hostname, port } = request.url;
  const portAsked = port === '' ? (protocol === 'https:' || protocol === 'wss:' ? 443 : 80) : Number(port);
  return bare(hostname) === bare(ask.host) && portAsked === ask.port;
}

function bare(host: string): string {
  return host
    .toLowerCase()
    .replace(/\.$/, '')
    .replace(/^\[(.*)\]$/, '$1');
}

function target({ method, url }: RequestAsk): Pick<EgressDecided, 'scheme' | 'method' | 'path'> {
  return {
    scheme: clean(url.protocol.replace(/:$/, ''), 16),
    method: clean(method, 32),
    path: clean(url.pathname, 1024),
  };
}

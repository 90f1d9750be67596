import { readHost, type Host } from '../../policy/decisions/host-name.ts';
import { readRequestUrl, type RequestUrl } from '../../policy/decisions/request-url.ts';
import { clean } from './clean.ts';
import type { Conversation } from '../conversation.ts';
import type { DeniedThing } from './denials.ts';
import type { EgressDecided } from './record.ts';

/** What is asked for, apart from the connection that asks. */
export type Ask = Pick<Conversation, 'host' | 'port' | 'callId' | 'via'>;

export interface RequestAsk {
  readonly method: string;
  readonly url: URL;
  /** The same as the client has written it, for whoever judges what `URL` would make unambiguous. */
  readonly text?: string;
  /** What `readRequestUrl` has made of `text`, where it was asked before. */
  readonly read?: RequestUrl;
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
  const url = request.read ?? readAgain(request);
  if (url === undefined) return true; // the rules say why it is refused
  return url.port === ask.port && (url.host === ask.host || url.host === hostOf(readHost(ask.host)));
}

function readAgain({ url, text = url.href }: RequestAsk): RequestUrl | undefined {
  const read = readRequestUrl(text);
  return read.kind === 'ambiguous' ? undefined : read.url;
}

function hostOf(host: Host): string | undefined {
  if (host.kind === 'bad') return undefined;
  return host.kind === 'name' ? host.name : host.address;
}

function target({ method, url }: RequestAsk): Pick<EgressDecided, 'scheme' | 'method' | 'path'> {
  return {
    scheme: clean(url.protocol.replace(/:$/, ''), 16),
    method: clean(method, 32),
    path: clean(url.pathname, 1024),
  };
}

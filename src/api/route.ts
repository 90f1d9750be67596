import { z } from 'zod';
import type { WebSocket } from 'ws';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import type { Scope } from '../store/key-row.ts';
import type { Problem } from '../contract/problem.ts';
import type { Watch } from './watch.ts';

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE';

/** What a handler is given: checked already, but for a body that is checked by whoever takes it. */
export interface Asked<P = Readonly<Record<string, string>>, Q = undefined, B = undefined> {
  readonly service: Service;
  readonly watch: Watch;
  readonly principal: Principal;
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  /** By its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** The client has gone. Made when it is asked for. */
  readonly gone: () => AbortSignal;
  /** Cuts the connection. */
  readonly cut: () => void;
  /** Of a failure after the answer has begun: logged, and what the client is told. */
  readonly problem: (error: unknown) => Problem;
  /** Called with whatever ends the answer, once; only of a lasting route. */
  readonly onEnd: () => void;
  readonly requestId: string;
}

export type Reply =
  | { readonly kind: 'json'; readonly status?: number; readonly value: unknown }
  | { readonly kind: 'text'; readonly contentType: string; readonly text: string }
  | {
      readonly kind: 'bytes';
      readonly contentType: string;
      readonly bytes: Uint8Array;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'stream'; readonly contentType: string; readonly body: ReadableStream<Uint8Array> }
  | { readonly kind: 'nothing' };

export type BodySpec =
  | {
      readonly kind: 'json';
      readonly schema: z.ZodType;
      /** The service checks it, so that it is checked once. */
      readonly checkedLater?: boolean;
      /** No body is an empty object. */
      readonly optional?: boolean;
      readonly maxBytes?: number;
    }
  /** `stream`: given as it arrives, and never whole. */
  | { readonly kind: 'bytes' | 'stream'; readonly contentType: string; readonly maxBytes: number };

/** What the document says of an answer; a schema is of JSON. */
export interface ReplySpec {
  readonly status?: number;
  readonly description: string;
  readonly schema?: z.ZodType;
  /** Other forms, by content type. */
  readonly also?: readonly string[];
  /** Refusals of a protocol that has words of its own for them, as JSON; what we refuse ourselves is a problem all the same. */
  readonly refusal?: z.ZodType;
}

interface Common {
  readonly method: Method;
  /** `{name}` is one segment, `{name+}` the rest. */
  readonly path: string;
  readonly operation: string;
  readonly tag: string;
  readonly summary: string;
  /** `none`: without a key. */
  readonly scope: Scope | 'none';
  readonly params: z.ZodType<Readonly<Record<string, string>>>;
  readonly query: z.ZodType | undefined;
  /** Request headers that mean something here. */
  readonly headers: Readonly<Record<string, string>>;
  /** It may last: counted apart. */
  readonly lasting: boolean;
  readonly reply: ReplySpec;
}

export interface HttpRoute extends Common {
  readonly kind: 'http';
  readonly body: BodySpec | undefined;
  readonly handle: (asked: Asked<Readonly<Record<string, string>>, unknown, unknown>) => Promise<Reply> | Reply;
}

export interface SocketRoute extends Common {
  readonly kind: 'websocket';
  /** Throws before the upgrade. What it returns has the socket afterwards. */
  readonly accept: (asked: Asked<Readonly<Record<string, string>>, unknown>) => Promise<(socket: WebSocket) => void>;
}

export type Route = HttpRoute | SocketRoute;

type Shape = Readonly<Record<string, z.ZodType<string>>>;
type ParamsOf<P extends Shape> = { readonly [K in keyof P]: string };
type Parsed<T> = T extends z.ZodType ? z.infer<T> : undefined;
type BodyOf<B> = B extends { kind: 'json'; schema: infer S extends z.ZodType }
  ? B extends { checkedLater: true }
    ? z.input<S>
    : z.infer<S>
  : B extends { kind: 'bytes' }
    ? Buffer
    : B extends { kind: 'stream' }
      ? AsyncIterable<Uint8Array>
      : undefined;

interface Row<P extends Shape, Q> {
  readonly method: Method;
  readonly path: string;
  readonly operation: string;
  readonly tag: string;
  readonly summary: string;
  readonly scope: Scope | 'none';
  readonly params?: P;
  readonly query?: Q;
  readonly headers?: Readonly<Record<string, string>>;
  readonly lasting?: boolean;
  readonly reply: ReplySpec;
}

/** One row of the table: the handler's types come from the schemas of its own row. */
export function route<P extends Shape, Q extends z.ZodType | undefined, B extends BodySpec | undefined>(
  row: Row<P, Q> & {
    readonly body?: B;
    readonly handle: (asked: Asked<ParamsOf<P>, Parsed<Q>, BodyOf<B>>) => Promise<Reply> | Reply;
  },
): HttpRoute {
  const handle = row.handle as HttpRoute['handle'];
  return { ...commonOf(row), kind: 'http', body: row.body, handle };
}

export function socketRoute<P extends Shape, Q extends z.ZodType | undefined>(
  row: Row<P, Q> & { readonly accept: (asked: Asked<ParamsOf<P>, Parsed<Q>>) => Promise<(socket: WebSocket) => void> },
): SocketRoute {
  return { ...commonOf(row), kind: 'websocket', lasting: true, accept: row.accept as SocketRoute['accept'] };
}

export function json(value: unknown, status = 200): Reply {
  return { kind: 'json', status, value };
}

function commonOf<P extends Shape, Q extends z.ZodType | undefined>(row: Row<P, Q>): Common {
  const { method, path, operation, tag, summary, scope, reply } = row;
  const params = z.strictObject(row.params ?? {}) as unknown as Common['params'];
  const { query, headers = {}, lasting = false } = row;
  return { method, path, operation, tag, summary, scope, params, query, headers, lasting, reply };
}

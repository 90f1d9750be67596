import { setImmediate } from 'node:timers/promises';
import { Hono, type Context } from 'hono';
import type { Problem } from '../contract/problem.ts';
import { isRunnerError, RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { rowsOf } from '../long-bytes.ts';
import { isLong, jsonPieces } from '../long-json.ts';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import { identityPattern } from '../store/key-row.ts';
import type { Admission } from './admission.ts';
import { parseAs, readBody, type BodyRoom } from './body.ts';
import { pulledStream } from './event-stream.ts';
import { problemHeaders, problemOf } from './problem.ts';
import type { Asked, Reply, Route, SocketRoute } from './route.ts';
import type { Watch } from './watch.ts';

/** By which listener a request came, and what carries its answer. */
export interface Arrival {
  /** The unix socket: whoever connects owns the data directory. */
  readonly isOwner?: boolean;
  readonly outgoing?: { destroy(): unknown };
  /** Its path is one that a parser of URLs turns into another. */
  readonly isOdd?: boolean;
}

export interface AppParts {
  readonly service: Service;
  readonly routes: readonly Route[];
  readonly watch: Watch;
  readonly admission: Admission;
  readonly bodies: BodyRoom;
  readonly hide: (text: string) => string;
  /** The owner of the socket may say who it is, so that two people of one machine can ask and approve. */
  readonly trustLocalIdentities?: boolean;
}

interface Env {
  readonly Bindings: Arrival;
}

interface Upgraded {
  readonly accept: Awaited<ReturnType<SocketRoute['accept']>>;
  readonly isAllowed: () => boolean;
  readonly end: () => void;
}

interface Request_ {
  readonly id: string;
  readonly route: Route | undefined;
  readonly run: string | undefined;
  readonly startedMs: number;
}

const keyWatchMs = 15_000;
/** Whoever waited longer for an answer may have lost their key meanwhile. */
const keyHoldsMs = 1_000;
const pathSafe = /^[^\0\\]*$/;

/**
 * The door for HTTP: who asks, whether they may, what they ask, then the service. Promises:
 *  - nothing of a body is read before its sender is known, and nothing happens that the route's schemas do not let through;
 *  - a failure is logged once and answered as a problem, without stack, secret or path of this machine;
 *  - every answer carries the id of its request, which tells nothing of other requests.
 */
export class App {
  readonly #parts: AppParts;
  readonly #hono: Hono<Env>;

  constructor(parts: AppParts) {
    this.#parts = parts;
    this.#hono = new Hono<Env>({ strict: true });
    for (const route of parts.routes) this.#hono.on(route.method, honoPath(route.path), (c) => this.#answer(c, route));
    this.#hono.all('*', (c) => this.#answer(c, undefined));
  }

  readonly fetch = async (request: Request, arrival: Arrival = {}): Promise<Response> =>
    this.#hono.fetch(request, arrival);

  /** Of a request to upgrade: who may have the socket, or the problem to answer with. */
  async upgrade(request: Request, arrival: Arrival): Promise<Upgraded | Response> {
    const found = findSocketRoute(this.#parts.routes, new URL(request.url).pathname);
    if (found === undefined) return this.#refuse(this.#begin(undefined, undefined), notUpgraded());
    const { route, params } = found;
    const about = this.#begin(route, params['run']);
    let end = (): void => undefined;
    try {
      refuseOdd(arrival);
      const principal = this.#principal(request, arrival);
      this.#parts.service.access.require(principal, route.scope === 'none' ? 'read' : route.scope);
      end = this.#enter(principal, route);
      const asked = this.#asked(about, route, { request, arrival, principal, params, onEnd: end });
      const accept = await route.accept({ ...asked, body: undefined });
      this.#count(about, 101);
      return { accept, end, isAllowed: () => this.#parts.service.isLive(principal) };
    } catch (error) {
      end();
      return this.#refuse(about, error);
    }
  }

  async #answer(c: Context<Env>, route: Route | undefined): Promise<Response> {
    const about = this.#begin(route, route === undefined ? undefined : c.req.param('run'));
    let leave = (): void => undefined;
    let release = (): void => undefined;
    let stopWatching = (): void => undefined;
    let lasts = false;
    try {
      refuseOdd(c.env);
      if (route === undefined) throw unknownRoute(this.#parts.routes, c.req.method, c.req.path);
      const arrival = c.env;
      const request = c.req.raw;
      let principal = nobody;
      if (route.scope !== 'none') {
        principal = this.#principal(request, arrival);
        this.#parts.service.access.require(principal, route.scope);
      }
      if (route.lasting && request.method === 'HEAD') throw new RunnerError('invalid_request', 'a stream has no HEAD');
      leave = this.#enter(principal, route);
      const asked = this.#asked(about, route, {
        request,
        arrival,
        principal,
        params: c.req.param(),
        onEnd: () => {
          stopWatching();
          leave();
          release();
        },
      });
      if (route.kind === 'websocket') {
        if (about.run !== undefined) this.#parts.service.access.find(principal, about.run);
        throw new RunnerError('invalid_request', 'this route is a WebSocket; upgrade to it');
      }
      const room = { room: this.#parts.bodies, team: principal.team };
      const given = route.body === undefined ? undefined : await readBody(request, route.body, room);
      if (given !== undefined) {
        release = given.release;
        this.#parts.watch.metrics.bytes('in', given.bytes);
      }
      const reply = await route.handle({ ...asked, body: given?.body });
      if (route.scope !== 'none' && reply.kind !== 'stream') this.#refuseLost(principal, about);
      lasts = reply.kind === 'stream';
      if (lasts) stopWatching = this.#watchKey(principal, arrival);
      const response = this.#respond(about, reply, asked.cut);
      this.#count(about, response.status);
      return response;
    } catch (error) {
      return this.#refuse(about, error);
    } finally {
      if (!lasts) {
        leave();
        release();
      }
    }
  }

  #begin(route: Route | undefined, run: string | undefined): Request_ {
    return { id: newId(), route, run, startedMs: performance.now() };
  }

  #enter(principal: Principal, route: Route): () => void {
    return this.#parts.admission.enter(principal, route.lasting);
  }

  /** A long poll, or a call that took long, is answered to nobody who may not ask for it any more; what was done is on record. */
  #refuseLost(principal: Principal, { startedMs }: Request_): void {
    if (performance.now() - startedMs < keyHoldsMs || this.#parts.service.isLive(principal)) return;
    throw new RunnerError('unauthenticated', 'the key is expired or revoked, since it was asked with');
  }

  /** What lasts ends when its key does. */
  #watchKey(principal: Principal, { outgoing }: Arrival): () => void {
    const timer = setInterval(() => {
      if (!this.#parts.service.isLive(principal)) outgoing?.destroy();
    }, keyWatchMs);
    timer.unref();
    return () => clearInterval(timer);
  }

  /** Throws `unauthenticated`. */
  #principal(request: Request, arrival: Arrival): Principal {
    const { service, trustLocalIdentities } = this.#parts;
    const header = request.headers.get('authorization');
    if (header !== null) {
      const [, token] = /^Bearer ([\x21-\x7e]{1,512})$/.exec(header) ?? [];
      if (token !== undefined) return service.authenticate(token);
      throw new RunnerError('unauthenticated', 'Authorization has to be "Bearer" and a key');
    }
    if (arrival.isOwner !== true)
      throw new RunnerError(
        'unauthenticated',
        'a key is needed, in Authorization: Bearer; glovebox key create makes one',
      );
    const as = request.headers.get('x-glovebox-as');
    if (as === null) return service.local();
    if (trustLocalIdentities !== true)
      throw new RunnerError('forbidden', 'another identity is taken with --trust-local-identities alone; use a key');
    if (!identityPattern.test(as))
      throw new RunnerError('invalid_request', 'X-Glovebox-As is not the name of an identity');
    return service.local(as);
  }

  #asked(
    about: Request_,
    route: Route,
    {
      request,
      arrival,
      principal,
      params,
      onEnd,
    }: {
      readonly request: Request;
      readonly arrival: Arrival;
      readonly principal: Principal;
      readonly params: Readonly<Record<string, string>>;
      readonly onEnd: () => void;
    },
  ): Omit<Asked<Readonly<Record<string, string>>, unknown, unknown>, 'body'> {
    const { service, watch } = this.#parts;
    if (Object.values(params).some((value) => !pathSafe.test(value)))
      throw new RunnerError('invalid_request', 'a path holds no NUL and no backslash');
    const queryAt = request.url.indexOf('?');
    return {
      service,
      watch,
      principal,
      params: parseAs(route.params, params, 'the path'),
      query: queryOf(route, queryAt === -1 ? '' : request.url.slice(queryAt)),
      header: (name) => request.headers.get(name) ?? undefined,
      gone: () => request.signal,
      cut: () => void arrival.outgoing?.destroy(),
      problem: (error) => this.#log(about, error),
      onEnd,
      requestId: about.id,
    };
  }

  #respond({ id }: Request_, reply: Reply, cut: () => void): Response {
    const common = { 'x-request-id': id, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
    switch (reply.kind) {
      case 'json': {
        const headers = { ...common, 'content-type': 'application/json' };
        const status = reply.status ?? 200;
        if (isLong(reply.value)) return new Response(this.#sent(jsonPieces(reply.value), cut), { status, headers });
        const text = JSON.stringify(reply.value);
        this.#parts.watch.metrics.bytes('out', Buffer.byteLength(text));
        return new Response(text, { status, headers });
      }
      case 'text':
        return new Response(reply.text, { headers: { ...common, 'content-type': reply.contentType } });
      case 'bytes': {
        const length = { 'content-length': `${reply.bytes.length}` };
        const headers = { ...common, ...length, 'content-type': reply.contentType, ...reply.headers };
        return new Response(this.#sent(rowsOf(reply.bytes), cut), { headers });
      }
      case 'stream':
        return new Response(reply.body, {
          headers: { ...common, 'content-type': reply.contentType, 'x-accel-buffering': 'no' },
        });
      case 'nothing':
        return new Response(null, { status: 204, headers: common });
    }
  }

  /** A piece at a time, as the reader takes them: others have their turn in between. */
  #sent(pieces: Generator<Uint8Array, void>, cut: () => void): ReadableStream<Uint8Array> {
    const next = async (): Promise<Uint8Array | undefined> => {
      await setImmediate();
      const { value } = pieces.next();
      this.#parts.watch.metrics.bytes('out', value?.length ?? 0);
      return value ?? undefined;
    };
    return pulledStream(next, { cut, onEnd: () => undefined });
  }

  #refuse(about: Request_, error: unknown): Response {
    const problem = this.#log(about, error);
    this.#count(about, problem.status);
    const allow = error instanceof WrongMethod ? { allow: error.allow.join(', ') } : {};
    const headers = { ...problemHeaders(problem), ...allow, 'x-request-id': about.id, 'cache-control': 'no-store' };
    return new Response(JSON.stringify(problem), { status: problem.status, headers });
  }

  /** One line a failure; what callers did wrong is no more than a note. */
  #log({ id, route, run }: Request_, error: unknown): Problem {
    const { watch, hide } = this.#parts;
    const problem = problemOf(error, id, hide);
    const line = { requestId: id, run, operation: route?.operation, code: problem.code, status: problem.status };
    if (problem.status < 500) watch.log.debug(line, problem.detail);
    else watch.log.error(isRunnerError(error) ? line : { ...line, err: error }, problem.detail);
    return problem;
  }

  #count({ route, startedMs }: Request_, status: number): void {
    const ms = performance.now() - startedMs;
    this.#parts.watch.metrics.request(route?.operation ?? 'none', route?.method ?? 'ANY', status, ms);
  }
}

class WrongMethod extends RunnerError {
  readonly allow: readonly string[];

  constructor(method: string, allow: readonly string[]) {
    super('method_not_allowed', `this route has no ${method.slice(0, 20)}; it has ${allow.join(' and ')}`);
    this.allow = allow;
  }
}

function unknownRoute(routes: readonly Route[], method: string, pathname: string): RunnerError {
  const found = routes.filter(({ path }) => pathPattern(path).test(pathname));
  const allow = [...new Set(found.map((route) => route.method))];
  if (allow.length > 0) return new WrongMethod(method, allow);
  return new RunnerError('not_found', 'there is no such route; /v1/openapi.json lists them');
}

/** Whatever its method and its body were: they have not been read. */
function notUpgraded(): RunnerError {
  return new RunnerError('invalid_request', 'nothing here is upgraded but the sockets; ask again without Upgrade');
}

function refuseOdd({ isOdd }: Arrival): void {
  if (isOdd === true) throw new RunnerError('invalid_request', 'a path holds no dot segments, no backslash and no NUL');
}

/** Asks of the routes that need no key: no more than the bounds on all. */
const nobody: Principal = {
  keyId: 'none',
  team: '-',
  identity: '-',
  scopes: new Set(),
  policies: [],
  quota: { openRuns: 0, callsPerMinute: 0, cpuMillis: 0, diskBytes: 0 },
};

function honoPath(path: string): string {
  return path.replaceAll(/\{(\w+)\+\}/g, ':$1{.+}').replaceAll(/\{(\w+)\}/g, ':$1');
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/\{\w+\+\}/g, '.+').replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}

/** A key that is there twice, or that the route does not know, is refused. */
function queryOf(route: Route, search: string): unknown {
  const query: Record<string, string> = {};
  if (search.length > 1)
    for (const [key, value] of new URLSearchParams(search)) {
      if (Object.hasOwn(query, key))
        throw new RunnerError('invalid_request', `the query says ${key.slice(0, 40)} twice`);
      Object.defineProperty(query, key, { value, enumerable: true });
    }
  if (route.query !== undefined) return parseAs(route.query, query, 'the query');
  const [unknown] = Object.keys(query);
  if (unknown === undefined) return undefined;
  throw new RunnerError(
    'invalid_request',
    `this route takes no query, and not ${JSON.stringify(unknown.slice(0, 40))}`,
  );
}

function findSocketRoute(
  routes: readonly Route[],
  pathname: string,
): { route: SocketRoute; params: Record<string, string> } | undefined {
  for (const route of routes) {
    if (route.kind !== 'websocket') continue;
    const names: string[] = [];
    const pattern = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
      names.push(name);
      return '([^/]+)';
    });
    const match = new RegExp(`^${pattern}$`).exec(pathname);
    if (match !== null)
      return { route, params: Object.fromEntries(names.map((name, at) => [name, match[at + 1] ?? ''])) };
  }
  return undefined;
}

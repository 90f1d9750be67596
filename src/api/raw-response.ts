import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Problem } from '../contract/problem.ts';
import { RunnerError, type ErrorCode } from '../errors.ts';
import { problemHeaders, problemOf } from './problem.ts';

/** An answer on a connection that has left HTTP, or never got there; it ends the connection. */
export async function sendResponse(socket: Duplex, response: Response): Promise<void> {
  send(socket, response.status, Object.fromEntries(response.headers), await response.text());
}

/** What Node's parser or its clocks refuse is answered as a problem too. */
export function refuseRaw(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  refuse(socket, ...reasonOf(error));
}

/** `Expect` with anything but `100-continue`. */
export function refuseExpectation(socket: Duplex): void {
  refuse(socket, 'invalid_request', 'nothing but 100-continue can be expected here; ask again without Expect');
}

/** Nothing is reached through this service but ports of runs, by their route. */
export function refuseConnect(socket: Duplex): void {
  socket.on('error', () => socket.destroy());
  refuse(socket, 'invalid_request', 'this is no proxy; /v1/runs/{run}/ports/{port} leads into a run');
}

function refuse(socket: Duplex, code: ErrorCode, message: string): void {
  const { problem, headers } = madeOf(code, message);
  send(socket, problem.status, headers, JSON.stringify(problem));
}

/** Of a request that never became one. */
export function problemResponse(code: ErrorCode, message: string): Response {
  const { problem, headers } = madeOf(code, message);
  return new Response(JSON.stringify(problem), { status: problem.status, headers });
}

function madeOf(code: ErrorCode, message: string): { problem: Problem; headers: Record<string, string> } {
  const problem = problemOf(new RunnerError(code, message), 'none', (text) => text);
  return { problem, headers: problemHeaders(problem) };
}

function reasonOf({ code, reason }: NodeJS.ErrnoException & { readonly reason?: unknown }): [ErrorCode, string] {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return ['headers_too_large', 'the headers are longer than this service takes'];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['request_timeout', 'the request did not arrive in time'];
    default:
      // The parser's own words, which hold nothing of the request.
      return ['invalid_request', `this cannot be read as HTTP/1.1${typeof reason === 'string' ? `: ${reason}` : ''}`];
  }
}

function send(socket: Duplex, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  const all = { ...headers, connection: 'close', 'content-length': `${Buffer.byteLength(body)}` };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${body}`);
  socket.once('finish', () => socket.destroy());
}

import * as http from 'node:http';
import * as https from 'node:https';

export interface HttpAsked {
  readonly port: number;
  readonly tls: boolean;
  readonly ca: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: string | Buffer;
  readonly agent?: https.Agent | false;
}

export interface HttpAnswered {
  readonly status: number | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** Asks `allowed.test`, wherever it is served, with Node's own client. */
export function askOver(asked: HttpAsked): Promise<HttpAnswered> {
  const { port, tls, ca, method = 'GET', path = '/', headers = {}, body, agent = false } = asked;
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method, path, headers: { host: 'allowed.test', ...headers } };
    const request = tls
      ? https.request({ ...options, servername: 'allowed.test', ca, agent })
      : http.request({ ...options, agent: false });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }),
      );
    });
    request.end(body);
  });
}

export function agentOf(): https.Agent {
  return new https.Agent({ keepAlive: true, maxSockets: 1 });
}

/** The answer is the request: its method, its target, its body. */
export function echo(request: http.IncomingMessage, response: http.ServerResponse): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.once('end', () => response.end(`${request.method} ${request.url} ${Buffer.concat(chunks).toString()}`));
}

/** Of headers as they came. */
export function headerOf(rawHeaders: readonly string[] | undefined, name: string): string | undefined {
  const at = rawHeaders?.findIndex((text, index) => index % 2 === 0 && text.toLowerCase() === name) ?? -1;
  return at < 0 ? undefined : rawHeaders?.[at + 1];
}

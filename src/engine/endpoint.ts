import { RunnerError } from '../errors.ts';

/** Where an engine listens. */
export type Endpoint =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls: EndpointTls | undefined };

export interface EndpointTls {
  /** Folder with `ca.pem`, `cert.pem` and `key.pem`; absent ones are left to the system's defaults. */
  readonly directory: string | undefined;
  readonly verify: boolean;
}

/** Parses what `DOCKER_HOST` and docker contexts hold: `unix:///path`, `tcp://host:port`, `https://host:port`. */
export function parseEndpoint(text: string, tls: EndpointTls | undefined): Endpoint {
  if (text.startsWith('/')) return { kind: 'unix', path: text };
  if (text.startsWith('unix://')) {
    const path = text.slice('unix://'.length);
    return { kind: 'unix', path: path === '' ? '/var/run/docker.sock' : path };
  }
  if (text.startsWith('ssh://')) {
    const example = `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock ${text}`;
    throw unusable(
      text,
      `engines over ssh are not supported; forward the socket ("${example}") and set DOCKER_HOST=unix:///tmp/engine.sock`,
    );
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const secure = tls !== undefined || url?.protocol === 'https:';
  if (url === undefined || !['tcp:', 'http:', 'https:'].includes(url.protocol) || url.hostname === '') {
    throw unusable(text, 'write unix:///path/to/socket or tcp://host:port');
  }
  return {
    kind: 'tcp',
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: portOf(url, secure),
    tls: secure ? (tls ?? { directory: undefined, verify: true }) : undefined,
  };
}

export function endpointName(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return `unix://${endpoint.path}`;
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host;
  return `${endpoint.tls === undefined ? 'tcp' : 'tcp+tls'}://${host}:${endpoint.port}`;
}

function portOf(url: URL, secure: boolean): number {
  if (url.port !== '') return Number(url.port);
  // WHATWG URLs drop a scheme's default port, so `https://host:443` arrives here as well.
  if (url.protocol === 'https:') return 443;
  if (url.protocol === 'http:') return 80;
  return secure ? 2376 : 2375;
}

function unusable(text: string, next: string): RunnerError {
  return new RunnerError('engine_unavailable', `The engine address ${JSON.stringify(text)} cannot be used: ${next}.`);
}

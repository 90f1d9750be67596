import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { join } from 'node:path';
import { Deadline } from '../deadline.ts';
import { type Endpoint, type EndpointTls, endpointName } from './endpoint.ts';

/** Asks whether an engine answers. Throws the connection's own error, or `engine_timeout`. */
export async function ping(endpoint: Endpoint, timeoutMs: number): Promise<void> {
  const what = `ask ${endpointName(endpoint)} whether it answers`;
  await Deadline.run(timeoutMs, what, (signal) => ask(endpoint, signal));
}

async function ask(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
  const common = { path: '/_ping', agent: false, signal };
  const request =
    endpoint.kind === 'unix'
      ? http.request({ ...common, socketPath: endpoint.path })
      : endpoint.tls === undefined
        ? http.request({ ...common, host: endpoint.host, port: endpoint.port })
        : https.request({ ...common, host: endpoint.host, port: endpoint.port, ...tlsOptions(endpoint.tls) });
  await new Promise<void>((resolve, reject) => {
    request.on('response', (response) => {
      response.resume();
      if (response.statusCode === 200) resolve();
      else reject(new Error(`it answers with status ${response.statusCode}, which no engine does`));
    });
    request.on('error', reject);
    request.end();
  });
}

/** Keys for the connection, and whether the server must prove its name. */
export function tlsOptions(tls: EndpointTls): {
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
  rejectUnauthorized: boolean;
} {
  const { directory, verify } = tls;
  if (directory === undefined) return { rejectUnauthorized: verify };
  const [ca, cert, key] = ['ca.pem', 'cert.pem', 'key.pem'].map((name) => readFileSync(join(directory, name)));
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    rejectUnauthorized: verify,
  };
}

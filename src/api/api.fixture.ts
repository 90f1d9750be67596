import { afterAll } from 'vitest';
import type { RunView } from '../contract/run-view.ts';
import { FakeService } from '../service/fake-runner.fixture.ts';
import type { ServiceOptions } from '../service/service.ts';
import { standardQuota, scopes, type Quota, type Scope } from '../store/key-row.ts';
import type { Admission, AdmissionLimits } from './admission.ts';
import type { App } from './app.ts';
import { openLog } from './log.ts';
import { openApi } from './open-api.ts';

export interface ApiOptions extends ServiceOptions {
  readonly admission?: AdmissionLimits;
  readonly trustLocalIdentities?: boolean;
}

export interface KeyOptions {
  readonly team?: string;
  readonly identity?: string;
  readonly scopes?: readonly Scope[];
  readonly policies?: 'any' | readonly string[];
  readonly quota?: Partial<Quota>;
  readonly expiresAt?: string;
}

/** The interface of a service without an engine, asked as clients ask it. */
export class Api {
  readonly fake: FakeService;
  readonly app: App;
  readonly admission: Admission;
  readonly log: string[];

  private constructor(fake: FakeService, app: App, admission: Admission, log: string[]) {
    this.admission = admission;
    this.fake = fake;
    this.app = app;
    this.log = log;
  }

  static async open(options: ApiOptions = {}): Promise<Api> {
    const fake = await FakeService.open(options);
    const lines: string[] = [];
    const log = openLog({ format: 'json', level: 'debug', write: (line) => void lines.push(line) });
    const { app, admission } = openApi({ service: fake.service, log, ...options });
    return new Api(fake, app, admission, lines);
  }

  /** Secret of a new key. */
  key({ team = 'red', identity = 'ann', policies = ['default'], quota, ...rest }: KeyOptions = {}): string {
    const { secret } = this.fake.store.keys.create({
      team,
      identity,
      scopes: rest.scopes ?? scopes,
      policies,
      quota: { ...standardQuota, ...quota },
      expiresAt: rest.expiresAt ?? null,
    });
    return secret;
  }

  /** With a key; undefined: none. A string or bytes go as they are, anything else as JSON. */
  ask(
    key: string | undefined,
    method: string,
    path: string,
    body?: unknown,
    more: Record<string, string> = {},
  ): Promise<Response> {
    const headers = new Headers(more);
    if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
    const raw = body instanceof Uint8Array || typeof body === 'string' || body instanceof ReadableStream;
    if (body !== undefined && !raw && !headers.has('content-type')) headers.set('content-type', 'application/json');
    const init = { method, headers, duplex: 'half' as const };
    const sent = body === undefined ? init : { ...init, body: raw ? (body as string) : JSON.stringify(body) };
    return this.app.fetch(new Request(new URL(path, 'http://service'), sent));
  }

  /** Of a socket that is refused. */
  async upgrade(key: string, path: string): Promise<Response> {
    const headers = { authorization: `Bearer ${key}` };
    const answer = await this.app.upgrade(new Request(new URL(path, 'http://service'), { headers }), {});
    if (answer instanceof Response) return answer;
    answer.end();
    throw new Error('the socket was granted');
  }

  async open(key: string, body: unknown = {}): Promise<RunView> {
    const answer = await this.ask(key, 'POST', '/v1/runs', body);
    if (answer.status !== 201) throw new Error(await answer.text());
    return (await answer.json()) as RunView;
  }

  async close(): Promise<void> {
    await this.fake.close();
  }
}

/** With a key, and a run that it has opened. It closes when the tests that it was opened for are over. */
export async function openApiWithRun(
  options: KeyOptions = {},
): Promise<{ readonly api: Api; readonly key: string; readonly run: string }> {
  const api = await Api.open();
  afterAll(() => api.close());
  const key = api.key(options);
  return { api, key, run: (await api.open(key)).id };
}

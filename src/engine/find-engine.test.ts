import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endpointName, parseEndpoint } from './endpoint.ts';
import { findEngine, lookForEngine, nextStep, type Tried } from './find-engine.ts';

describe('finding the engine', () => {
  let home: string;
  let servers: http.Server[];

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'glovebox-find-'));
    servers = [];
  });
  afterEach(async () => {
    await Promise.all(
      servers.map((server) => new Promise((done) => (server.closeAllConnections(), server.close(done)))),
    );
    rmSync(home, { recursive: true });
  });

  const listen = async (path: string, answer: (response: http.ServerResponse) => void = ok): Promise<string> => {
    const at = join(home, path);
    mkdirSync(dirname(at), { recursive: true });
    const server = http.createServer((_, response) => answer(response));
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(at, resolve));
    return at;
  };
  const context = (name: string, host: string): void => {
    const folder = createHash('sha256').update(name).digest('hex');
    const meta = join(home, '.docker', 'contexts', 'meta', folder);
    mkdirSync(meta, { recursive: true });
    writeFileSync(join(meta, 'meta.json'), JSON.stringify({ Name: name, Endpoints: { docker: { Host: host } } }));
  };
  const config = (text: string): void => {
    mkdirSync(join(home, '.docker'), { recursive: true });
    writeFileSync(join(home, '.docker', 'config.json'), text);
  };
  const find = async (env: Record<string, string> = {}): Promise<string> => {
    const options = { env, home, runDirectory: join(home, 'run'), probeMs: 300 };
    return endpointName(await findEngine(options));
  };

  it('takes the usual socket, then rootless Docker, then Podman of the user and of the system', async () => {
    const env = { XDG_RUNTIME_DIR: join(home, 'user') };
    const system = await listen('run/podman/podman.sock');
    expect(await find(env)).toBe(`unix://${system}`);
    const podman = await listen('user/podman/podman.sock');
    expect(await find(env)).toBe(`unix://${podman}`);
    const rootless = await listen('user/docker.sock');
    expect(await find(env)).toBe(`unix://${rootless}`);
    const usual = await listen('run/docker.sock');
    expect(await find(env)).toBe(`unix://${usual}`);
  });

  it('follows the chosen context, by configuration and by environment', async () => {
    const one = await listen('one.sock');
    const two = await listen('two.sock');
    context('one', `unix://${one}`);
    context('two', `unix://${two}`);
    config(JSON.stringify({ currentContext: 'one' }));
    expect(await find()).toBe(`unix://${one}`);
    expect(await find({ DOCKER_CONTEXT: 'two' })).toBe(`unix://${two}`);
  });

  it('puts DOCKER_HOST before everything', async () => {
    const chosen = await listen('chosen.sock');
    await listen('run/docker.sock');
    config(JSON.stringify({ currentContext: 'missing' }));
    expect(await find({ DOCKER_HOST: `unix://${chosen}` })).toBe(`unix://${chosen}`);
  });

  it('never takes another engine than the one that was chosen', async () => {
    await listen('run/docker.sock');
    await expect(find({ DOCKER_HOST: `unix://${join(home, 'gone.sock')}` })).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringMatching(/DOCKER_HOST chooses .*gone\.sock/) as string,
    });
    config(JSON.stringify({ currentContext: 'missing' }));
    const missing = {
      code: 'engine_unavailable',
      message: expect.stringMatching(/"missing".*no such docker context/) as string,
    };
    await expect(find()).rejects.toMatchObject(missing);
    await expect(find({ DOCKER_CONTEXT: 'missing' })).rejects.toMatchObject(missing);
    config('{ half');
    await expect(find()).rejects.toMatchObject({ code: 'engine_unavailable' });
  });

  it('tells a hung engine, a stale socket and a stranger apart', async () => {
    await listen('run/docker.sock', () => undefined);
    const hung = await lookForEngine({ env: {}, home, runDirectory: join(home, 'run'), probeMs: 200 });
    expect(hung.tried.map((at) => at.found)).toEqual(['no_answer', 'absent']);
    const stranger = await listen('stranger.sock', (response) => response.writeHead(404).end());
    const options = { env: { DOCKER_HOST: `unix://${stranger}` }, home };
    expect((await lookForEngine(options)).tried[0]).toMatchObject({ found: 'unusable' });
  });

  it.each([
    [[tried('no_permission')], /usermod -aG docker/],
    [[tried('no_answer')], /hangs: restart it/],
    [[{ ...tried('refused'), from: 'DOCKER_HOST' }], /DOCKER_HOST chooses/],
    [[tried('unusable')], /Correct the setting/],
  ] as const)('says the one next step', (tried, step) => {
    expect(nextStep(tried, false)).toMatch(step);
  });

  it('names how to install an engine when there is none', () => {
    expect(nextStep([tried('absent')], false)).toMatch(/apt-get install docker\.io/);
  });
});

describe('the address of an engine', () => {
  it.each([
    ['unix:///run/x.sock', 'unix:///run/x.sock'],
    ['unix://', 'unix:///var/run/docker.sock'],
    ['/run/x.sock', 'unix:///run/x.sock'],
    ['tcp://h:1234', 'tcp://h:1234'],
    ['tcp://h', 'tcp://h:2375'],
    ['http://h', 'tcp://h:80'],
    ['https://h', 'tcp+tls://h:443'],
    ['tcp://[::1]:99', 'tcp://[::1]:99'],
  ])('%s is understood', (text, name) => {
    expect(endpointName(parseEndpoint(text, undefined))).toBe(name);
  });

  it('is protected where keys are given', () => {
    const endpoint = parseEndpoint('tcp://h', { directory: '/keys', verify: true });
    expect(endpoint).toEqual({ kind: 'tcp', host: 'h', port: 2376, tls: { directory: '/keys', verify: true } });
  });

  it.each(['ssh://me@h', 'npipe:////./pipe/x', 'h:1234', '', 'tcp://'])('%j is refused with a way out', (text) => {
    expect(() => parseEndpoint(text, undefined)).toThrow(/cannot be used/);
  });
});

function ok(response: http.ServerResponse): void {
  response.writeHead(200).end('OK');
}

function tried(found: Tried['found']): Tried {
  return { from: 'the usual socket', endpoint: 'unix:///x', found, detail: found };
}

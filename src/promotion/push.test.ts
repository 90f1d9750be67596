import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { answerGit } from '../../test/fixtures/git-http.ts';
import { PromotionBench } from './candidate.fixture.ts';
import { push } from './push.ts';

const credential = async (): Promise<{ user: string; secret: string }> => ({ user: 'bot', secret: 'a secret token' });
const basic = `Basic ${Buffer.from('bot:a secret token').toString('base64')}`;

let bench: PromotionBench;
let server: Server;
let remote: string;
let marker: string;
let authorized: (string | undefined)[];

beforeEach(async () => {
  bench = await PromotionBench.create({ 'README.md': 'read me\n' }, { 'README.md': 'read me, and more\n' });
  const { home } = bench.repository;
  marker = join(home, 'ran');
  bench.repository.git('clone', '-q', '--bare', '.', join(home, 'far/web.git'));
  bench.repository.git('-C', join(home, 'far/web.git'), 'config', 'http.receivepack', 'true');
  authorized = [];
  server = createServer((request, response) => {
    authorized.push(request.headers.authorization);
    if (request.url?.startsWith('/moved') === true)
      response.writeHead(302, { location: remote.replace('far', 'elsewhere') }).end();
    else if (request.headers.authorization !== basic)
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    else answerGit(home, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  remote = `http://127.0.0.1:${(server.address() as AddressInfo).port}/far/web.git`;
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  bench.remove();
});

const far = (...args: readonly string[]): string =>
  execFileSync('git', ['-C', join(bench.repository.home, 'far/web.git'), ...args], { stdio: 'pipe' })
    .toString()
    .trim();

test('a promotion is pushed to the same branch elsewhere, with the credential of the operator, and on record', async () => {
  const { git, path } = { git: bench.repository, path: bench.repository.path };
  mkdirSync(join(path, '.git/hooks'), { recursive: true });
  writeFileSync(join(path, '.git/hooks/pre-push'), `#!/bin/sh\ntouch ${marker}\n`, { mode: 0o755 });
  git.git('config', 'credential.helper', `!touch ${marker}`);
  git.git('config', `url.http://127.0.0.1:1/.insteadOf`, 'http://127.0.0.1');
  const { id, commit, branch } = await bench.promote(bench.candidate());
  const pushed = await push(bench.dataDir, { promotion: id, remote, credential });
  expect(far('rev-parse', branch)).toBe(commit);
  expect(pushed.pushed).toMatchObject({ remote, branch, commit });
  await push(bench.dataDir, { promotion: id, remote, credential }); // once more changes nothing
  expect(existsSync(marker)).toBe(false);
  expect(new Set(authorized)).toEqual(new Set([basic]));
});

test('without a credential, or after a redirection, nothing is pushed and nobody is asked', async () => {
  const { id } = await bench.promote(bench.candidate());
  const refused = { code: 'conflict' };
  await expect(push(bench.dataDir, { promotion: id, remote })).rejects.toMatchObject(refused);
  const moved = remote.replace('/far', '/moved/far');
  await expect(push(bench.dataDir, { promotion: id, remote: moved, credential })).rejects.toMatchObject(refused);
  expect(far('for-each-ref', '--format=%(refname)')).toBe('refs/heads/main');
});

test('what somebody else has put on the branch there is not overwritten', async () => {
  const { id, branch } = await bench.promote(bench.candidate());
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];
  const other = far(...identity, 'commit-tree', '-m', 'by somebody', '-p', 'main', 'main^{tree}');
  far('update-ref', `refs/heads/${branch}`, other);
  const pushed = push(bench.dataDir, { promotion: id, remote, credential });
  await expect(pushed).rejects.toMatchObject({ code: 'conflict' });
  expect(far('rev-parse', branch)).toBe(other);
});

test.each(['origin', '/srv/web.git', 'ssh://git@host/web.git', 'ext::sh -c id', 'http://example.org/x', '--help'])(
  '%s is no address to push to',
  async (address) => {
    const { id } = await bench.promote(bench.candidate());
    const pushed = push(bench.dataDir, { promotion: id, remote: address, credential });
    await expect(pushed).rejects.toMatchObject({ code: 'invalid_request' });
  },
);

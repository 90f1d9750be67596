import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { registryEnvironment } from './environment.ts';
import { machineRegistries } from './machine.ts';
import { publicRegistries, registryUrl, type Registries } from './registries.ts';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'registries-'));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

function read(env: Readonly<Record<string, string>> = {}): Promise<Registries> {
  return machineRegistries({ env, home: join(root, 'home/me'), root, node: join(root, 'opt/node/bin/node') });
}

const urls = (list: readonly { readonly url: string }[]): readonly string[] => list.map(({ url }) => url);

test('a machine that says nothing uses the public registries', async () => {
  expect(await read()).toEqual(publicRegistries);
});

describe('npm', () => {
  test('the environment counts before the user, the user before the machine', async () => {
    await write('opt/node/etc/npmrc', 'registry=https://machine.example/\n');
    expect((await read()).npm).toEqual([{ url: 'https://machine.example/' }]);
    await write('home/me/.npmrc', '; mine\nregistry = "https://user.example/npm" # near\n');
    expect((await read()).npm).toEqual([{ url: 'https://user.example/npm/' }]);
    expect((await read({ NPM_CONFIG_REGISTRY: 'https://env.example' })).npm).toEqual([{ url: 'https://env.example/' }]);
  });

  test('scopes have their own registries, and variables in values are filled in', async () => {
    await write(
      'home/me/.npmrc',
      '@acme:registry=https://${NPM_HOST}/acme/\n//npm.acme.example/:_authToken=s3cret\n@other:registry=nonsense\n',
    );
    expect((await read({ NPM_HOST: 'npm.acme.example' })).npm).toEqual([
      { url: 'https://registry.npmjs.org/' },
      { url: 'https://npm.acme.example/acme/', scope: '@acme' },
    ]);
  });

  test('what a project says through npm is not believed', async () => {
    await write('home/me/.npmrc', 'registry=https://user.example/\n');
    const env = {
      npm_config_registry: 'https://project.example/',
      npm_config_userconfig: '/dev/null',
      npm_execpath: '/x',
    };
    expect((await read(env)).npm).toEqual([{ url: 'https://user.example/' }]);
  });

  test('other files are read where the environment names them', async () => {
    await write('home/me/.npmrc', 'registry=https://user.example/\n');
    await write('elsewhere', 'registry=https://elsewhere.example/\n');
    const found = await read({ npm_config_userconfig: join(root, 'elsewhere') });
    expect(found.npm).toEqual([{ url: 'https://elsewhere.example/' }]);
  });
});

describe('pip', () => {
  test('the last file counts, then the section of install, then the environment', async () => {
    await write('etc/pip.conf', '[global]\nindex-url = https://machine.example/simple\n');
    expect(urls((await read()).pypi)).toEqual(['https://machine.example/simple/']);
    await write(
      'home/me/.config/pip/pip.conf',
      '[global]\nindex_url: https://user.example/simple\nextra-index-url =\n    https://a.example/simple/\n    file:///opt/wheels\n[install]\nindex-url = https://install.example/simple/\n',
    );
    expect(urls((await read()).pypi)).toEqual(['https://install.example/simple/', 'https://a.example/simple/']);
    expect(urls((await read({ PIP_INDEX_URL: 'https://env.example/simple/', PIP_EXTRA_INDEX_URL: '' })).pypi)).toEqual([
      'https://env.example/simple/',
    ]);
  });

  test('no file is read where pip is told to read none', async () => {
    await write('etc/pip.conf', '[global]\nindex-url = https://machine.example/simple\n');
    expect(await read({ PIP_CONFIG_FILE: '/dev/null' })).toEqual(publicRegistries);
  });
});

describe('apt', () => {
  test('mirrors of Debian are taken in both forms, others are not, and what is not mirrored stays public', async () => {
    await write('etc/apt/sources.list', 'deb [arch=amd64] http://mirror.example/debian bookworm main\n');
    await write(
      'etc/apt/sources.list.d/more.sources',
      'Types: deb\nURIs: https://deb.nodesource.com/node_20.x\nSuites: nodistro\nComponents: main\n',
    );
    expect(urls((await read()).debian)).toEqual([
      'http://mirror.example/debian/',
      'http://deb.debian.org/debian-security/',
      'http://security.debian.org/debian-security/',
    ]);
  });

  test('a list of mirrors stands for its lines', async () => {
    await write(
      'etc/apt/sources.list.d/debian.sources',
      'Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n',
    );
    await write('etc/apt/mirrors/debian.list', 'https://cdn.example/debian priority:1\n# no\n');
    expect(urls((await read()).debian)[0]).toBe('https://cdn.example/debian/');
  });
});

describe('configuration that is no file of a sensible size', () => {
  test('is no configuration: a directory, a dangling link, a FIFO that nobody writes to', async () => {
    await mkdir(join(root, 'home/me/.npmrc'), { recursive: true });
    await mkdir(join(root, 'etc'), { recursive: true });
    await symlink('/nowhere', join(root, 'etc/npmrc'));
    execFileSync('mkfifo', [join(root, 'etc/pip.conf')]);
    expect(await read()).toEqual(publicRegistries);
  });

  test('is refused in words when it is too long', async () => {
    await write('home/me/.npmrc', '#'.repeat(300_000));
    await expect(read()).rejects.toThrow(/\.npmrc was to say which registries this machine uses: it is longer than/);
  });
});

test.each([
  ['https://user:pw@r.example/npm?x#y', 'https://r.example/npm/'],
  ['HTTP://R.example:8081', 'http://r.example:8081/'],
  ['file:///opt/x', undefined],
  ['ftp://r.example/', undefined],
  ['', undefined],
])('a registry is its place, without names and passwords: %s', (text, expected) => {
  expect(registryUrl(text)).toBe(expected);
});

test('tools inside are told of mirrors, and of nothing else', () => {
  expect(registryEnvironment(publicRegistries)).toEqual({});
  expect(registryEnvironment({})).toEqual({});
  expect(
    registryEnvironment({
      npm: [{ url: 'https://n.example/' }, { url: 'https://s.example/', scope: '@acme' }],
      pypi: [{ url: 'https://p.example/simple/' }, { url: 'https://q.example/simple/' }],
    }),
  ).toEqual({
    npm_config_registry: 'https://n.example/',
    'npm_config_@acme:registry': 'https://s.example/',
    PIP_INDEX_URL: 'https://p.example/simple/',
    PIP_EXTRA_INDEX_URL: 'https://q.example/simple/',
  });
});

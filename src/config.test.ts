import { readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { configKeys, loadConfig, parseConfig, usualPlaces } from './config.ts';

const whole = `
egress:
  proxy: http://user:password@proxy.example:3128
  no_proxy: [.internal, localhost, 10.0.0.0/8]
  ca: [/etc/ssl/own.pem]
  hosts: {db.internal: [10.0.0.5, "fd00::5"]}
  resolvers: [192.0.2.53, "192.0.2.54:5353", "[2001:db8::53]:53"]
  sent_policies: [10.20.0.0/16, db.internal:5432, "unix:/run/pg.sock"]
credentials:
  commands:
    gh: [/usr/bin/gh, auth, token]
signing: {command: [/usr/bin/pass, signing-key]}
promotion: {members: {"@org/core": [ada, "@grace"]}, reviewers: {ada: [/etc/ada.pem]}, remotes: [{url: https://git.example/, source: env:TOKEN}]}
`;

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'glovebox-config-'))));
afterAll(() => rm(folder, { recursive: true }));

describe('a configuration', () => {
  test('says all that it can say', () => {
    expect(parseConfig(whole, 'config.yaml')).toEqual({
      source: 'config.yaml',
      egress: {
        proxy: 'http://user:password@proxy.example:3128',
        noProxy: ['.internal', 'localhost', '10.0.0.0/8'],
        caFiles: ['/etc/ssl/own.pem'],
        hosts: { 'db.internal': ['10.0.0.5', 'fd00::5'] },
        resolvers: ['192.0.2.53', '192.0.2.54:5353', '[2001:db8::53]:53'],
        sentPolicies: ['10.20.0.0/16', 'db.internal:5432', 'unix:/run/pg.sock'],
      },
      credentials: { commands: { gh: ['/usr/bin/gh', 'auth', 'token'] } },
      signing: { command: ['/usr/bin/pass', 'signing-key'] },
      promotion: {
        members: { '@org/core': ['ada', '@grace'] },
        reviewers: { ada: ['/etc/ada.pem'] },
        remotes: [{ url: 'https://git.example/', source: 'env:TOKEN' }],
      },
    });
  });

  test.each(['', '\n', '# all of it is commented out\n#egress: {}\n', 'egress: {}\n'])(
    'may say nothing: %j',
    (text) => {
      expect(parseConfig(text, 'c')).toMatchObject({
        egress: { proxy: undefined, hosts: {} },
        credentials: { commands: {} },
      });
    },
  );

  test.each([
    ['egress:\n  proxi: x\n', /^c:2:3: egress\.proxi: unknown key; did you mean proxy\?$/],
    ['egress: {proxy: "socks5://a:1"}\n', /^c:1:17: egress\.proxy: write http:/],
    ['egress: {proxy: "http://a:1/path"}\n', /egress\.proxy: write http:/],
    ['egress: {ca: [own.pem]}\n', /egress\.ca\.0: write a path that begins with a slash/],
    ['egress: {hosts: {db: [nowhere]}}\n', /egress\.hosts\.db\.0: write an IPv4 or IPv6 address/],
    ['egress: {hosts: {DB: [192.0.2.1]}}\n', /egress\.hosts\.DB: .*lower case|egress\.hosts/],
    ['egress: {resolvers: ["192.0.2.1:0"]}\n', /egress\.resolvers\.0: write the address/],
    ['egress: {resolvers: []}\n', /egress\.resolvers/],
    ['signing: {key: own.pem}\n', /signing\.key: write a path that begins with a slash/],
    ['signing: {key: /a, command: [/b]}\n', /signing: say key or command, not both/],
    ['promotion: {members: {"@org/core": [""]}}\n', /promotion\.members\.@org\/core\.0: write a name/],
    ['egress: {sent_policies: [10.0.0.1]}\n', /egress\.sent_policies\.0: write a range/],
    ['egress: {sent_policies: ["unix:/var/run/docker.sock"]}\n', /egress\.sent_policies\.0/],
    ['credentials: {commands: {gh: gh auth token}}\n', /credentials\.commands\.gh/],
    ['credentials: {commands: {gh: [gh, auth, token]}}\n', /credentials\.commands\.gh: the program is a path/],
    ['credentials: {commands: {gh: []}}\n', /credentials\.commands\.gh/],
    ['egress: {}\negress: {}\n', /^c:2:1: the same key twice/],
    ['egress: &a {}\n', /anchors/],
    ['[]\n', /not a list of keys/],
  ])('that is wrong names its place: %j', (text, message) => {
    expect(() => parseConfig(text, 'c')).toThrow(
      expect.objectContaining({ code: 'invalid_config', message: expect.stringMatching(message) as string }) as Error,
    );
  });
});

test('docs/configuration.md lists every key, and no other', () => {
  const page = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `(egress|credentials|signing|promotion)\.(\w+)` \|/gm)].map(
    ([, part, key]) => `${part}.${key}`,
  );
  expect(documented).toEqual(configKeys);
  const [, example = ''] = /```yaml\n([^]*?)```/.exec(page) ?? [];
  expect(parseConfig(example, 'docs/configuration.md').egress.proxy).toContain('proxy.example');
});

describe('a configuration file', () => {
  const write = async (name: string, mode = 0o600): Promise<string> => {
    const path = join(folder, name);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, whole);
    await chmod(path, mode);
    return path;
  };

  test('is the one that GLOVEBOX_CONFIG names, else the one of the user', async () => {
    const own = await write('home/glovebox/config.yaml');
    const named = await write('named.yaml', 0o644);
    const env = { XDG_CONFIG_HOME: join(folder, 'home') };
    expect((await loadConfig(env)).source).toBe(own);
    expect((await loadConfig({ ...env, GLOVEBOX_CONFIG: named })).source).toBe(named);
    expect(usualPlaces({ HOME: '/home/a', XDG_CONFIG_HOME: 'relative' })).toEqual([
      '/home/a/.config/glovebox/config.yaml',
      '/etc/glovebox/config.yaml',
    ]);
  });

  test.each([
    ['absent.yaml', undefined, /no such file/],
    ['others.yaml', 0o646, /others may write it; do: chmod go-w/],
    ['group.yaml', 0o664, /others may write it/],
    ['.', undefined, /not a regular file/],
  ])('that is named has to be there, and ours alone to change: %s', async (name, mode, message) => {
    const path = mode === undefined ? join(folder, name) : await write(name, mode);
    await expect(loadConfig({ GLOVEBOX_CONFIG: path })).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringMatching(message) as string,
    });
  });

  test('is named with its whole path', async () => {
    await expect(loadConfig({ GLOVEBOX_CONFIG: 'config.yaml' })).rejects.toThrow(/begins with a slash/);
  });
});

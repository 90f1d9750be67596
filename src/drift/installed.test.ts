import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { environmentSections } from './environment-sections.ts';
import { lookAtInstalled, type Installed } from './installed.ts';
import { InstalledMemory } from './installed-memory.ts';
import { placeWith } from './place.fixture.ts';

const status = `Package: git
Status: install ok installed
Architecture: amd64
Version: 1:2.39

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36
`;

const image = {
  '/etc/passwd': 'root:x:0:0:root:/root:/bin/bash\nagent:x:10001:10001::/home/agent:/bin/sh\n',
  '/etc/group': 'root:x:0:\nwheel:x:10:agent\n',
  '/etc/hosts': 'of the engine',
  '/etc/localtime': '-> /usr/share/zoneinfo/Etc/UTC',
  '/var/lib/dpkg/status': status,
  '/usr/local/lib/node_modules/npm/package.json': '{"version":"10.1.0"}',
  '/usr/local/lib/node_modules/@scope/tool/package.json': '{"version":"2.0.0"}',
  '/usr/local/lib/node_modules/npm/node_modules/inner/package.json': '{"version":"9.9.9"}',
  '/usr/local/lib/node_modules/broken/package.json': '{',
  '/usr/local/lib/python3.11/site-packages/Foo_Bar-1.2.dist-info/METADATA': '',
  '/usr/lib/locale/C.utf8/LC_CTYPE': '',
  '/usr/local/bin/git': '-> /opt/git/bin/git',
  '/opt/git/bin/git': 'newer git',
  '/usr/bin/git': 'git',
  '/usr/bin/unknown': 'x',
};
const path = ['/usr/local/bin', '/usr/bin'];

describe('what is installed', () => {
  test('is found without running any of it', async () => {
    const found = await lookAtInstalled(placeWith(image), path);
    expect(found.packages.evidence).toEqual({
      git: '1:2.39',
      libc6: '2.36',
      'libc6:i386': '2.36',
      'npm:npm': '10.1.0',
      'npm:@scope/tool': '2.0.0',
      'python:foo-bar': '1.2',
    });
    expect(found.tools.evidence).toEqual({ git: `1:2.39 /usr/local/bin/git ${digestOf('newer git')}` });
    expect(found.users.evidence).toEqual({
      root: '0:0 /root /bin/bash',
      agent: '10001:10001 /home/agent /bin/sh',
      'group root': '0',
      'group wheel': '10 agent',
    });
    expect(found).toMatchObject({ locales: 'C.utf8', localtime: '-> /usr/share/zoneinfo/Etc/UTC' });
  });

  test('leaves out what the engine writes into each container', async () => {
    const { system_files: system } = await lookAtInstalled(placeWith(image), path);
    expect(Object.keys(system.evidence)).not.toContain('/etc/hosts');
    expect(system.evidence['/etc/passwd']).toBe(`${digestOf(image['/etc/passwd'])} 0644 0:0`);
  });

  test('has versions of what came by no package manager, where a file says them', async () => {
    const found = await lookAtInstalled(
      placeWith({
        '/usr/local/include/node/node_version.h':
          '#define NODE_MAJOR_VERSION 22\n#define NODE_MINOR_VERSION 3\n#define NODE_PATCH_VERSION 1\n',
        '/usr/local/include/python3.12/patchlevel.h': '#define PY_VERSION      "3.12.4"\n',
        '/usr/local/go/VERSION': 'go1.22.1\ntime 2024-02-29T18:18:48Z\n',
        '/usr/local/bin/node': 'node',
        '/usr/local/bin/python3': '-> python3.12',
        '/usr/local/bin/go': 'go',
      }),
      path,
    );
    const versions = Object.entries(found.tools.evidence).map(([name, line]) => [name, line.split(' ')[0]]);
    expect(Object.fromEntries(versions)).toEqual({ node: '22.3.1', python3: '3.12.4', go: '1.22.1' });
  });

  test('of Alpine is found too', async () => {
    const apk = { '/lib/apk/db/installed': 'C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nC:Q1\nP:git\nV:2.45\n' };
    const { packages } = await lookAtInstalled(placeWith(apk), path);
    expect(packages.evidence).toEqual({ musl: '1.2.5-r0', git: '2.45' });
  });
});

describe('what images have installed', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'glovebox-installed-'));
  });
  afterEach(() => rm(directory, { recursive: true }));

  const id = digestOf('image');
  const counted = (): { look: () => Promise<Installed>; looks: () => number } => {
    let looks = 0;
    const look = (): Promise<Installed> => {
      looks += 1;
      return lookAtInstalled(placeWith(image), path);
    };
    return { look, looks: () => looks };
  };

  test('is looked at once for an image and a runtime, also by another process', async () => {
    const { look, looks } = counted();
    const memory = new InstalledMemory(directory);
    const [one, two] = await Promise.all([memory.of(id, 'runc', look), memory.of(id, 'runc', look)]);
    expect(two).toEqual(one);
    expect(await new InstalledMemory(directory).of(id, 'runc', look)).toEqual(one);
    expect(looks()).toBe(1);
    await memory.of(id, 'runsc', look);
    expect(looks()).toBe(2);
  });

  test('is told to one run though the sandbox of another one, in which it is being looked at, hangs or breaks', async () => {
    const memory = new InstalledMemory(directory, { othersWithinMs: 10 });
    const { look, looks } = counted();
    const hanging = memory.of(id, 'runc', () => new Promise(() => undefined));
    hanging.catch(() => undefined);
    await memory.of(id, 'runc', look);
    const broken = memory.of(id, 'runsc', () => Promise.reject(new Error('cut short')));
    await expect(
      Promise.all([memory.of(id, 'runsc', look), expect(broken).rejects.toThrow('cut')]),
    ).resolves.toBeDefined();
    expect(looks()).toBe(2);
  });

  test('is looked at again when what is kept is not what was written', async () => {
    const { look, looks } = counted();
    await new InstalledMemory(directory).of(id, 'runc', look);
    const file = join(directory, 'fingerprints', `${id.replace(':', '-')}.runc.json`);
    for (const text of ['{', '{}']) {
      await writeFile(file, text);
      await new InstalledMemory(directory).of(id, 'runc', look);
    }
    expect(looks()).toBe(3);
  });

  test('is not remembered where nobody could look', async () => {
    const memory = new InstalledMemory(directory);
    await expect(memory.of(id, 'runc', () => Promise.reject(new Error('gone')))).rejects.toThrow('gone');
    expect(await memory.has(id, 'runc')).toBe(false);
    const { look, looks } = counted();
    await memory.of(id, 'runc', look);
    expect(looks()).toBe(1);
  });
});

test('values of variables are shown where they say nothing about anybody, and by digest elsewhere', () => {
  const env = ['TZ=Asia/Tokyo', 'LANG=C', 'TOKEN=secret', 'HTTP_PROXY=http://call@127.0.0.1', 'A=b=c'];
  const found = environmentSections(env, ['HTTP_PROXY'], { locales: 'C.utf8', localtime: '-> UTC' });
  expect(found.env.evidence).toEqual({
    TZ: 'Asia/Tokyo',
    LANG: 'C',
    TOKEN: digestOf('secret'),
    HTTP_PROXY: 'of this run',
    A: digestOf('b=c'),
  });
  expect(found.locale.evidence).toEqual({ LANG: 'C', available: 'C.utf8' });
  expect(found.time_zone.evidence).toEqual({ TZ: 'Asia/Tokyo', '/etc/localtime': '-> UTC' });
});

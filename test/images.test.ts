import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { digestOf } from '../src/digest.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import { acceptImage, readAccepted, resolveImage, type AcceptedImage } from '../src/images/accepted.ts';
import { buildImage, type BuiltImage } from '../src/images/build.ts';
import { listImages } from '../src/images/list.ts';
import { shippedImagesDir } from '../src/images/recipe.ts';
import { verifyImage } from '../src/images/verify.ts';
import { rootOf } from './fixtures/tiny-image.ts';

const names = ['base', 'node', 'python'] as const;
const built = new Map<string, BuiltImage>();
const containers = new Map<string, Promise<string>>();
const tampered: string[] = [];

let engine: DockerEngine;
let dataDir: string;
let scratch: string;

beforeAll(async () => {
  engine = await DockerEngine.connect();
  dataDir = (await DataDir.open()).path;
  scratch = await mkdtemp(join(tmpdir(), 'images-'));
  for (const name of names) built.set(name, await buildImage(name, { engine, dataDir, onProgress: () => undefined }));
}, 300_000);

afterAll(async () => {
  for (const standing of containers.values()) await docker(['rm', '--force', await standing]);
  for (const tag of tampered) await engine.removeImage(tag);
  await rm(scratch, { recursive: true, force: true });
});

describe.each(names)('image %s', (name) => {
  test('holds, byte for byte, what was accepted', async () => {
    const found = await verifyImage(name, { engine, dataDir });
    // Where Debian has moved on since the lock was written, a fresh build is `moved`; nothing else may differ then.
    if (built.get(name)?.state === 'moved') expect(found.verdict).toBe('moved');
    else expect(found).toEqual({ name, id: built.get(name)?.id, verdict: 'verified', differences: [] });
  });

  test('is not built again', async () => {
    const again = await buildImage(name, { engine, dataDir, onProgress: () => undefined });
    expect(again).toMatchObject({ upToDate: true, id: built.get(name)?.id });
    expect(again.elapsedMs).toBeLessThan(1000);
  });

  test('holds no file that gives privileges, no device, and nothing of the machine that built it', async () => {
    const script =
      'find / -xdev \\( -perm /6000 -type f -o -type b -o -type c \\) ! -path "/dev/*"; getcap -r / 2>/dev/null; ls -d /etc/machine-id 2>/dev/null; cat /etc/apt/apt.conf.d/99mmdebstrap 2>/dev/null; true';
    expect(await inContainer(name, ['sh', '-c', script], '0:0')).toBe('');
  });

  test('is for the user agent, with the mount points that a read-only root needs', async () => {
    const script = 'id -u agent; id -g agent; stat -c "%n %u %a" /home/agent /workspace /.glovebox; whoami; pwd';
    const lines = (await inContainer(name, ['sh', '-c', script])).split('\n');
    expect(lines).toEqual([
      '10001',
      '10001',
      '/home/agent 10001 755',
      '/workspace 10001 755',
      '/.glovebox 0 755',
      'agent',
      '/workspace',
    ]);
  });

  test('has a package list that names what dpkg says is installed', async () => {
    const format = 'pkg:${Package}=${Version}\\n';
    const installed = (await inContainer(name, ['dpkg-query', '--show', '--showformat', format])).split('\n');
    const bom = JSON.parse(await readFile(join(shippedImagesDir, name, 'sbom.cdx.json'), 'utf8')) as Bom;
    expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' });
    const listed = bom.components
      .filter(({ purl }) => purl.startsWith('pkg:deb/'))
      .map((found) => `pkg:${found.name}=${found.version}`);
    if (built.get(name)?.state === 'locked') expect(listed.toSorted()).toEqual(installed.toSorted());
    expect(listed.length).toBeGreaterThan(80);
  });
});

interface Bom {
  readonly components: readonly { readonly name: string; readonly version: string; readonly purl: string }[];
}

test.each([
  ['base', ['git', '--version'], /^git version 2/],
  ['base', ['rg', '--version'], /^ripgrep 1/],
  ['base', ['python3', '--version'], /^Python 3/],
  ['base', ['localedef', '--list-archive'], /^C\.utf8$/m],
  ['node', ['node', '--version'], /^v20\./],
  ['node', ['npm', '--version'], /^10\./],
  ['node', ['npx', '--version'], /^10\./],
  ['python', ['python', '--version'], /^Python 3/],
  ['python', ['python3', '-m', 'pytest', '--version'], /^pytest 7/],
  ['python', ['pip', '--version'], /^pip 2/],
  ['python', ['sh', '-c', 'python3 -m venv /tmp/v && /tmp/v/bin/pip --version'], /^pip 2/],
])('%s runs %j without a network', async (name, command, expected) => {
  expect(await inContainer(name, command)).toMatch(expected);
});

describe('an image that is not what it says', () => {
  test('under a tag of ours is refused, and verify says what is wrong with its labels', async () => {
    const tag = await imitate('glovebox/base:tampered-label', await accepted(), { 'glovebox.image': 'node' });
    await expect(resolveImage(engine, await readAccepted(dataDir), tag)).rejects.toMatchObject({
      code: 'image_not_allowed',
    });
    const found = await verifyImage('base', { engine, dataDir: await listing(tag, digestOf(await accepted())) });
    expect(found.verdict).toBe('mismatch');
    expect(found.differences.join('\n')).toMatch(/label glovebox\.image: expected base, found node/);
  });

  test('with one more file behind the right labels is refused, and verify tells by the bytes', async () => {
    const more = await rootOf(['sh'], [{ name: 'usr/local/bin/git', content: '#!/bin/sh\n' }]);
    const tag = await imitate('glovebox/base:tampered-content', more);
    await expect(resolveImage(engine, await readAccepted(dataDir), tag)).rejects.toMatchObject({
      code: 'image_not_allowed',
    });
    const found = await verifyImage('base', { engine, dataDir: await listing(tag, digestOf(await accepted())) });
    expect(found.verdict).toBe('mismatch');
    expect(found.differences.join('\n')).toMatch(/^content: accepted sha256:\w+, found sha256:\w+/m);
  });

  test('is a mismatch when it is another image of ours', async () => {
    expect(await verifyImage('base', { engine, dataDir: await listing('glovebox/python:latest') })).toMatchObject({
      verdict: 'mismatch',
    });
  });
});

test('a data directory that has accepted nothing refuses what the engine has, until it is built or read whole', async () => {
  const fresh = await mkdtemp(join(scratch, 'fresh-'));
  await expect(resolveImage(engine, await readAccepted(fresh), 'base')).rejects.toMatchObject({
    code: 'image_not_found',
  });
  expect((await listImages({ engine, dataDir: fresh })).map(({ name, state }) => `${name} ${state}`)).toEqual(
    names.map((name) => `${name} absent`),
  );
  if (built.get('base')?.state === 'locked') {
    expect(await buildImage('base', { engine, dataDir: fresh, onProgress: () => undefined })).toMatchObject({
      upToDate: true,
    });
    expect(await resolveImage(engine, await readAccepted(fresh), 'base')).toBe(built.get('base')?.id);
  }
});

/** In the one container of that image, whose root nobody can write. */
async function inContainer(name: string, command: readonly string[], user = '10001:10001'): Promise<string> {
  let standing = containers.get(name);
  if (standing === undefined) {
    const flags = ['--detach', '--network', 'none', '--read-only', '--tmpfs', '/tmp:exec', '--env', 'HOME=/tmp'];
    standing = docker(['run', ...flags, built.get(name)?.id ?? '', 'sleep', '600']);
    containers.set(name, standing);
  }
  return await docker(['exec', '--user', user, await standing, ...command]);
}

/** What is accepted as `base` here: little, so that the engine is quick to give it back. */
const accepted = (): Promise<Buffer> => rootOf(['sh']);

/** An image of these files that says of itself what ours say, under a tag that looks like ours. */
async function imitate(tag: string, files: Buffer, labels: Readonly<Record<string, string>> = {}): Promise<string> {
  tampered.push(tag);
  const { labels: ours = {} } = (await engine.findImage(built.get('base')?.id ?? '')) ?? {};
  const content = digestOf(await accepted());
  await engine.importImage(Readable.from([files]), {
    tag,
    labels: { ...ours, 'glovebox.image.content': content, ...labels },
    env: [],
    architecture: 'amd64',
  });
  return tag;
}

async function docker(args: readonly string[]): Promise<string> {
  return (await execa('docker', args, { timeout: 45_000, env: { DOCKER_HOST: engine.endpoint } })).stdout;
}

/** A data directory whose list was edited to accept the image behind `tag` as base. */
async function listing(tag: string, content?: AcceptedImage['content']): Promise<string> {
  const edited = await mkdtemp(join(scratch, 'edited-'));
  const entry = (await readAccepted(dataDir)).images['base'];
  const id = (await engine.findImage(tag))?.id;
  if (entry === undefined || id === undefined) throw new Error(`base or ${tag} is missing`);
  await acceptImage(edited, 'base', { ...entry, id: id as AcceptedImage['id'], content: content ?? entry.content });
  return edited;
}

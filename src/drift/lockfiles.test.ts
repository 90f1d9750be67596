import { expect, test } from 'vitest';
import { lookAtLockfiles } from './lockfiles.ts';
import { placeWith } from './place.fixture.ts';

const none = new Map<string, string>();

/** What is said of each lockfile. */
async function told(
  files: Readonly<Record<string, string>>,
  system: ReadonlyMap<string, string> = none,
): Promise<Readonly<Record<string, string>>> {
  const below = Object.fromEntries(Object.entries(files).map(([path, text]) => [`/workspace/${path}`, text]));
  const { evidence } = await lookAtLockfiles(placeWith(below), '/workspace', async () => system);
  return Object.fromEntries(Object.entries(evidence).filter(([name]) => !name.endsWith(' sha256')));
}

function npmLock(packages: Readonly<Record<string, object>>): string {
  return JSON.stringify({ lockfileVersion: 3, packages: { '': { name: 'own' }, ...packages } });
}

const a1 = { 'node_modules/a': { version: '1.0.0' } };
const installedAt = 'node_modules/.package-lock.json';

test.each<[string, Readonly<Record<string, string>>, string]>([
  ['nothing installed', { 'package-lock.json': npmLock(a1) }, 'not_installed'],
  ['the same installed', { 'package-lock.json': npmLock(a1), [installedAt]: npmLock(a1) }, 'in_step'],
  [
    'another version installed',
    { 'package-lock.json': npmLock(a1), [installedAt]: npmLock({ 'node_modules/a': { version: '1.0.1' } }) },
    'a: 1.0.0 locked, 1.0.1 installed',
  ],
  [
    'one that is missing',
    { 'package-lock.json': npmLock({ ...a1, 'node_modules/b': { version: '2.0.0' } }), [installedAt]: npmLock(a1) },
    'b: 2.0.0 locked, none installed',
  ],
  [
    'missing what is for another machine, or for development',
    {
      'package-lock.json': npmLock({
        ...a1,
        'node_modules/@esbuild/darwin-x64': { version: '1.0.0', optional: true },
        'node_modules/test': { version: '1.0.0', dev: true },
      }),
      [installedAt]: npmLock(a1),
    },
    'in_step',
  ],
  ['no JSON', { 'package-lock.json': '{' }, 'unreadable'],
  [
    'a workspace package, which is a link and no install',
    { 'package-lock.json': npmLock({ ...a1, 'packages/x': { version: '9.9.9' } }), [installedAt]: npmLock(a1) },
    'in_step',
  ],
])('npm with %s', async (_, files, said) => {
  expect(await told(files)).toEqual({ 'package-lock.json': said });
});

test('more than five packages that differ are counted', async () => {
  const packages = (version: string): Record<string, object> =>
    Object.fromEntries(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => [`node_modules/${name}`, { version }]));
  const files = { 'package-lock.json': npmLock(packages('1.0.0')), [installedAt]: npmLock(packages('2.0.0')) };
  expect((await told(files))['package-lock.json']).toMatch(/^a: 1\.0\.0 locked, 2\.0\.0 installed; .*; and 2 more$/);
});

test('a lockfile in a directory of the workspace is found, and one deeper or in node_modules is not', async () => {
  const text = npmLock(a1);
  const files = {
    'app/package-lock.json': text,
    'a/b/package-lock.json': text,
    'node_modules/x/package-lock.json': text,
  };
  expect(await told(files)).toEqual({ 'app/package-lock.json': 'not_installed' });
});

test('pnpm has installed exactly the lockfile that it keeps a copy of', async () => {
  expect(await told({ 'pnpm-lock.yaml': 'a' })).toEqual({ 'pnpm-lock.yaml': 'not_installed' });
  expect(await told({ 'pnpm-lock.yaml': 'a', 'node_modules/.pnpm/lock.yaml': 'a' })).toEqual({
    'pnpm-lock.yaml': 'in_step',
  });
  expect(await told({ 'pnpm-lock.yaml': 'a', 'node_modules/.pnpm/lock.yaml': 'b' })).toEqual({
    'pnpm-lock.yaml': 'another lockfile is installed',
  });
});

const venv = '.venv/lib/python3.11/site-packages';
const requirements = `# comment
Flask==3.0.0 \\
    --hash=sha256:aaaa
typing_extensions==4.9.0 ; python_version < "3.12"
uvicorn[standard]==0.30.1
loose>=1.0
`;

test.each<[string, Readonly<Record<string, string>>, Readonly<Record<string, string>>]>([
  ['requirements.txt', { 'requirements.txt': requirements }, { 'requirements.txt': 'not_installed' }],
  [
    'requirements.txt in step',
    {
      'requirements.txt': requirements,
      [`${venv}/flask-3.0.0.dist-info/METADATA`]: '',
      [`${venv}/uvicorn-0.30.1.dist-info/METADATA`]: '',
    },
    { 'requirements.txt': 'in_step' },
  ],
  [
    'requirements.txt out of step',
    { 'requirements.txt': requirements, [`${venv}/Flask-2.9.0.dist-info/METADATA`]: '' },
    { 'requirements.txt': 'flask: 3.0.0 locked, 2.9.0 installed; uvicorn: 0.30.1 locked, none installed' },
  ],
  [
    'uv.lock, of which not all is for this machine',
    {
      'uv.lock':
        'version = 1\n\n[[package]]\nname = "a-b"\nversion = "1.0"\n\n[[package]]\nname = "win"\nversion = "2"\n',
      [`${venv}/a_b-1.1.dist-info/METADATA`]: '',
    },
    { 'uv.lock': 'a-b: 1.0 locked, 1.1 installed' },
  ],
  [
    'poetry.lock with two versions of one package',
    {
      'poetry.lock': '[[package]]\nname = "a"\nversion = "1.0"\n\n[[package]]\nname = "a"\nversion = "2.0"\n',
      [`${venv}/a-2.0.dist-info/METADATA`]: '',
    },
    { 'poetry.lock': 'in_step' },
  ],
])('Python: %s', async (_, files, said) => {
  expect(await told(files)).toEqual(said);
});

test('without an environment of its own, Python has the packages of the image', async () => {
  const files = { 'requirements.txt': 'flask==3.0.0\n' };
  expect(await told(files, new Map([['flask', '3.0.0']]))).toEqual({ 'requirements.txt': 'in_step' });
  expect(await told(files, new Map([['flask', '2.0.0']]))).toEqual({
    'requirements.txt': 'flask: 3.0.0 locked, 2.0.0 installed',
  });
});

test('another lockfile with the same packages is told apart', async () => {
  const [one, other] = await Promise.all(
    ['{}', '{ }'].map((text) => lookAtLockfiles(placeWith({ '/w/package-lock.json': text }), '/w', async () => none)),
  );
  expect(one?.digest).not.toBe(other?.digest);
});

test('of many large ones no more is read than of one, whoever has put them there', async () => {
  const large = JSON.stringify({ packages: {}, fill: 'x'.repeat(3 * 1024 * 1024) });
  const directories = Array.from({ length: 16 }, (_, at) => `/workspace/d${at}`);
  const files = directories.flatMap((at) => [
    [`${at}/package-lock.json`, large],
    [`${at}/node_modules/.package-lock.json`, large],
  ]);
  const place = placeWith(Object.fromEntries(files));
  let bytes = 0;
  const read = async (path: string, bytesMax: number): Promise<string | undefined> => {
    const text = await place.read(path, bytesMax);
    bytes += text?.length ?? 0;
    return text;
  };
  await lookAtLockfiles({ ...place, read }, '/workspace', async () => new Map());
  expect(bytes).toBeGreaterThan(12 * 1024 * 1024);
  expect(bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
});

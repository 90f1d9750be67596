import { createPublicKey } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readBundle, type CheckedBundle } from '../src/bundle/check.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, program, smallPolicy } from './fixtures/bench.ts';
import { elsewhere } from './fixtures/elsewhere.ts';

/** Bundles of real runs, checked where there is neither engine nor data directory. */

const secret = 'tok-A1b2C3d4E5f6G7h8';
const variable = 'GLOVEBOX_TEST_TOKEN';
const files = {
  'src/a.txt': 'one\n',
  'src/gone.txt': 'x\n',
  'src/run.sh': 'echo run\n',
  'src/link-to-be': 'f\n',
  'src/old/deep/b.txt': 'b\n',
};
const edits = `set -e
echo two >> src/a.txt; rm src/gone.txt; chmod +x src/run.sh; rm src/link-to-be; ln -s a.txt src/link-to-be
mv src/old src/new; mkdir -p src/empty; head -c 300000 /dev/urandom > src/random.bin
printf 'x' > 'src/odd name'; printf 'y' > "src/$(printf 'not-utf8-\\377')"; touch src/nothing
env | grep GLOVEBOX || true; head -c 100000 /dev/zero | tr '\\0' z`;

let bench: Bench;
beforeAll(async () => {
  process.env[variable] = secret;
  bench = await Bench.make();
});
afterAll(async () => {
  Reflect.deleteProperty(process.env, variable);
  await bench.close();
});

async function ranIn(strategy: 'overlay' | 'copy'): Promise<Run> {
  const runner = await Runner.create(strategy === 'copy' ? elsewhere(bench.engine) : bench.engine, bench.dataDir);
  try {
    const workspace = await bench.workspace(files);
    const policy = smallPolicy(`egress: { use: [s], profiles: { s: [{ id: api, host: [api.test], credential: gh }] } }
credentials:
  gh: { source: "env:${variable}", host: api.test }
`);
    const run = await runner.open({ policy, workspace });
    const edited = await run.call('edit', { tool: 'exec', script: edits });
    expect(edited.ok, edited.text).toBe(true);
    await run.close();
    return run;
  } finally {
    await runner.close();
  }
}

/** As on a machine that has never heard of this one. */
async function checkedElsewhere(file: string, key: string) {
  const nowhere = await mkdtemp(join(bench.folder, 'nowhere-'));
  const env = {
    PATH: '/usr/bin:/bin',
    HOME: join(nowhere, 'none'),
    GLOVEBOX_DATA: join(nowhere, 'none'),
    DOCKER_HOST: 'unix:///none',
    NO_COLOR: '1',
  };
  return execa(process.execPath, [program, 'check', file, '--key', key], {
    cwd: nowhere,
    env,
    extendEnv: false,
    reject: false,
  });
}

test.each(['overlay', 'copy'] as const)(
  'a run in an %s workspace leaves in one file, and is checked by the public key alone',
  async (strategy) => {
    const run = await ranIn(strategy);
    const out = await mkdtemp(join(bench.folder, 'out-'));
    const [file, again, key] = [join(out, 'run.tar'), join(out, 'again.tar'), join(out, 'key.pem')];
    const exported = await bench.cli(['export', run.dir.id, '-o', file, '--json']);
    expect(exported.exitCode, exported.stderr).toBe(0);
    await bench.cli(['export', run.dir.id, '-o', again]);
    const bytes = await readFile(file);
    expect((await readFile(again)).equals(bytes), 'exported twice').toBe(true);
    expect(bytes.includes(secret)).toBe(false);
    await writeFile(key, (await bench.cli(['signing-key'])).stdout);

    const checked = await checkedElsewhere(file, key);
    expect(checked.stdout, checked.stderr).toContain(`WHOLE: run ${run.dir.id}`);
    expect(checked.exitCode).toBe(0);
    const bundle = await readBundle(file, [createPublicKey(await readFile(key))]);
    expect(JSON.parse(exported.stdout)).toMatchObject({
      run: run.dir.id,
      manifest: bundle.digest,
      bytes: bytes.length,
    });
    expect(bundle.facts.story.started.workspace.strategy).toBe(strategy);
    await expectApplied(bundle);

    const spoilt = join(out, 'spoilt.tar');
    const at = bytes.indexOf('changes.patch\0') + 512 + 20;
    await writeFile(spoilt, Buffer.concat([bytes.subarray(0, at), Buffer.from('!'), bytes.subarray(at + 1)]));
    const broken = await checkedElsewhere(spoilt, key);
    expect(broken).toMatchObject({
      exitCode: 1,
      stdout: expect.stringMatching(/^changes.patch: digest.*\nBROKEN/) as string,
    });
  },
);

/** What the bundle holds makes of the files that the run began with what the run left. */
async function expectApplied(bundle: CheckedBundle): Promise<void> {
  const told = new Map(bundle.manifest.changes.map((change) => [change.path, change]));
  expect([...told.keys()]).toEqual(expect.arrayContaining(['src/a.txt', 'src/gone.txt', 'src/run.sh', 'src/empty']));
  expect(told.get('src/run.sh')).toMatchObject({ status: 'mode_changed', flags: ['becomes_executable'] });
  expect(told.get('src/link-to-be')).toMatchObject({ status: 'type_changed', after: { target: 'a.txt' } });
  expect(told.get('src/gone.txt')).toMatchObject({ status: 'deleted' });
  expect(told.get('src/not-utf8-\udcff')).toMatchObject({ status: 'added' });
  const folder = await bench.workspace(files);
  const patch = join(bench.folder, 'patch');
  await writeFile(patch, await bundle.patch());
  execFileSync('git', ['apply', patch], { cwd: folder, stdio: 'pipe' });
  for (const { path, after } of told.values()) {
    if (after?.kind !== 'file' || path.includes('\udcff')) continue;
    expect((await readFile(join(folder, path))).equals(await bundle.contents(after.digest)), path).toBe(true);
  }
}

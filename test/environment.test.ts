import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { execa } from 'execa';
import { pack, type Pack } from 'tar-stream';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { labelKeys } from '../src/engine/labels.ts';
import { removeEnvironment } from '../src/environment/build.ts';
import { listEnvironmentLocks } from '../src/environment/lock.ts';
import { findResults, keepResults } from '../src/environment/results.ts';
import { resultsDir } from '../src/environment/setup-script.ts';
import { digestOf } from '../src/digest.ts';
import { newId } from '../src/ids.ts';
import { loadPolicy, parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { importSetupImage } from './fixtures/tiny-image.ts';

let bench: Bench;
let runner: Runner;
/** Id of an image from which environments are quick to build. */
let small: string;

beforeAll(async () => {
  bench = await Bench.make();
  small = await importSetupImage(bench.engine, setupImage);
  runner = await Runner.create(bench.engine, bench.dataDir);
});
afterEach(async () => {
  const { path } = bench.dataDir;
  for (const lock of await listEnvironmentLocks(path)) await removeEnvironment(bench.engine, path, lock);
});
afterAll(async () => {
  await bench.engine.removeImage(setupImage);
  await runner.close();
  await bench.close();
});

const setupImage = `glovebox-test/setup-${newId()}:1`;
const files = { 'deps.lock': 'lib 1\n', 'src/a.txt': 'one\n', '.env': 'TOKEN=secret\n' };

function policyText(setup: readonly (readonly string[])[], more = ''): string {
  const extra = `environment:\n  image: ${small}\n  setup: ${JSON.stringify(setup)}\n  files: ["deps.lock", ".env"]\n${more}`;
  return smallPolicyText(extra).replace('[base]', `["${small}"]`);
}

const policyWith = (...setup: readonly (readonly string[])[]): LoadedPolicy => parsePolicy(policyText(setup), 'test');

const sh = (script: string): readonly string[] => ['sh', '-c', script];

async function build(policy: LoadedPolicy, workspace: string, lines: string[] = []) {
  return runner.buildEnvironment(policy.policy, workspace, { onProgress: (line) => void lines.push(line) });
}

let calls = 0;
async function text(run: Run, script: string): Promise<string> {
  const result = await run.call(`c${calls++}`, { tool: 'exec', script });
  if (!result.ok) throw new Error(result.text);
  return result.text;
}

test('what setup installs as root, outside and inside the workspace, is there in a run and not in its diff', async () => {
  const workspace = await bench.workspace(files);
  const setup = [
    sh('id -u; pwd; cat deps.lock; test ! -e .env; test ! -e src'),
    sh(
      "mkdir -p /opt/lib && echo 'it'\\''s here' > /opt/lib/x && mkdir -p /usr/local/bin && install -m 4755 /bin/true /usr/local/bin/setid",
    ),
    sh(
      'mkdir -p build/deps && echo lib > build/deps/lib && ln -s lib build/deps/link && echo no > stray && echo l > /var/log/x',
    ),
  ];
  const policy = policyWith(...setup);
  const lines: string[] = [];
  const built = await build(policy, workspace, lines);
  expect(built.upToDate).toBe(false);
  expect(lines).toEqual(expect.arrayContaining(['0', '/workspace', 'lib 1']));
  expect(built.lock).toMatchObject({ network: false, base: { reference: small }, files: [{ path: 'deps.lock' }] });
  expect(built.lock.packages.debian).toEqual(['setup=1']);

  const run = await runner.open({ policy, workspace });
  expect(await text(run, 'cat /opt/lib/x build/deps/link; ls; stat -c %a /usr/local/bin/setid; cat deps.lock')).toMatch(
    /^it's here\nlib\nbuild\ndeps\.lock\nsrc\n755\nlib 1\n/,
  );
  expect(
    await text(
      run,
      'echo more > build/deps/more && rm build/deps/lib && echo two >> src/a.txt; touch /opt/lib/y || echo locked',
    ),
  ).toMatch(/locked/);
  const [fork] = await runner.fork(run);
  expect(await text(fork ?? run, 'cat build/deps/lib; tail -1 src/a.txt')).toMatch(/^lib\ntwo\n/);
  await Promise.all([run.close(), fork?.close()]);
  expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/a.txt']);
  expect(run.candidate?.violations).toEqual([]);
});

test('what is installed into the workspace is shared by runs, not copied, and is the tools own: changed, removed, renamed', async () => {
  const workspace = await bench.workspace(files);
  const make =
    'mkdir -p build/deps/bin; cd build/deps; for n in $(seq 400); do echo $n > f$n; done; ln -s ../f1 bin/one';
  const policy = policyWith(sh(make));
  const { lock } = await build(policy, workspace);
  const kept = findResults(bench.dataDir.path, lock.id);
  const look = 'ls build/deps | wc -l; cat build/deps/bin/one; stat -c "%u %a" build build/deps/f1 build/deps/bin';
  const whole = /^401\n1\n10001 755\n10001 644\n10001 755\n/;
  for (const attempt of [1, 2]) {
    const run = await runner.open({ policy, workspace });
    expect(await text(run, look), `${attempt}`).toMatch(whole);
    expect(await text(run, 'cat /proc/self/mountinfo')).toContain(kept);
    await text(
      run,
      'cd build; echo x > deps/f1; rm deps/f2; mv deps away; mkdir deps; echo new > deps/f3; rm -r away/bin',
    );
    expect(await text(run, 'ls build/away | wc -l; cat build/deps/f3 build/away/f1')).toMatch(/^399\nnew\nx\n/);
    const [fork] = await runner.fork(await run.snapshot({ scratch: true }));
    // What was removed does not come back with the environment.
    const gone = 'ls -d build/deps/f4 build/away/bin 2>/dev/null | wc -l';
    expect(await text(fork ?? run, `ls build/away | wc -l; cat build/deps/f3 build/away/f1; ${gone}`)).toMatch(
      /^399\nnew\nx\n0\n/,
    );
    await text(run, 'rm -r build && mkdir build && echo 1 > src/a.txt');
    await Promise.all([run.close(), fork?.close()]);
    expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/a.txt']);
    expect(run.candidate?.findings).toEqual([]);
    expect(run.candidate?.violations).toEqual([]);
  }
  // Where it cannot be a layer (the workspace has something there already), it is copied as before.
  await mkdir(join(workspace, 'build'));
  await writeFile(join(workspace, 'build/own'), 'own\n');
  const run = await runner.open({ policy, workspace });
  expect(await text(run, `cat build/own; ${look}; grep -c results /proc/self/mountinfo || true`)).toMatch(
    new RegExp(`^own\n${whole.source.slice(1)}0\n`),
  );
  await run.close();
  await removeEnvironment(bench.engine, bench.dataDir.path, lock);
  expect(findResults(bench.dataDir.path, lock.id)).toBeUndefined();
});

test('nothing of it is blamed on the agent, whatever its names and what the policy takes out of scratch; shared and copied', async () => {
  const deps = `mkdir -p build/deps/node_modules/a; cd build; echo t > deps/.env; echo l > deps/lib
    echo p > deps/node_modules/a/cert.pem; echo r > deps/node_modules/a/.npmrc`;
  // Out of scratch, and in a directory that the workspace does not have.
  const more = 'mkdir -p keep ../other; echo k > keep/x; cp -r deps/node_modules ../other';
  const policyFor = (setup: string, scratch: string, write: string): LoadedPolicy =>
    parsePolicy(
      policyText([sh(setup)])
        .replace('["build/**"]', `["**/node_modules/**", "build/**", ${scratch}]`)
        .replace('["src/**"]', `["src/**"${write}]`)
        .replace('["**/.env"]', '["**/.env", "**/*.{pem,key}", "**/.npmrc"]'),
      'test',
    );
  const plain = await bench.workspace(files);
  const own = await bench.workspace({ ...files, 'build/own': 'own\n' });
  const [kept, keptWrite, all] = ['"!build/keep/**"', ', "build/keep/**"', `${deps}\n${more}`];
  const cases = [
    { how: 'a layer', workspace: plain, policy: policyFor(deps, kept, ''), shared: 1 },
    { how: 'a copy', workspace: plain, policy: policyFor(all, kept, ''), shared: 0 },
    // It could be anywhere: every path is asked for.
    { how: 'exported', workspace: own, policy: policyFor(all, '"!**/keep/**"', keptWrite), shared: 0 },
  ];
  for (const { how, workspace, policy, shared } of cases) {
    await build(policy, workspace);
    const run = await runner.open({ policy, workspace });
    const look = 'cat build/deps/.env build/deps/lib build/deps/node_modules/a/*.pem build/deps/node_modules/a/.npmrc';
    expect(
      await text(
        run,
        `${look}; grep -c environments/results /proc/self/mountinfo; ls -d build/keep other 2>/dev/null; true`,
      ),
      how,
    ).toMatch(new RegExp(`^t\nl\np\nr\n${shared}\n(?!build|other)`));
    const untouched = await run.diff();
    expect([...untouched.changeSet.changes.keys()], how).toEqual([]);
    expect([untouched.findings, untouched.violations], how).toEqual([[], []]);
    expect(untouched.scratch.files, how).toBe(workspace === own ? 5 : 4);

    await text(
      run,
      'mkdir build/keep; echo mine > build/keep/x; echo q > build/deps/node_modules/a/cert.pem; rm build/deps/lib',
    );
    const forks = how === 'exported' ? await runner.fork(await run.snapshot({ scratch: true })) : [];
    for (const fork of forks)
      expect(await text(fork, 'cd build/deps; cat node_modules/a/cert.pem; ls lib 2>&1 || true')).toMatch(/^q\nls: /);
    await Promise.all([run, ...forks].map((each) => each.close()));
    const changed = [...(run.candidate?.changeSet.changes.keys() ?? [])];
    const blamed = run.candidate?.violations.map(({ path }) => path);
    const its = ['build/keep', 'build/keep/x'];
    expect([changed, blamed], how).toEqual(workspace === own ? [its, []] : [[], its]);
    expect(run.candidate?.findings, how).toEqual([]);
  }
});

test('an archive of results is written nowhere but into its directory, and through no link', async () => {
  const id = digestOf('hostile');
  const inside = resultsDir.slice(1);
  const hostile: Record<string, (tar: Pack) => void> = {
    'through a link': (tar) => {
      tar.entry({ name: `${inside}/a`, type: 'symlink', linkname: bench.folder });
      tar.entry({ name: `${inside}/a/out` }, 'out');
    },
    'by its name': (tar) => void tar.entry({ name: `${inside}/../../../out` }, 'out'),
    'over a link': (tar) => {
      tar.entry({ name: `${inside}/a`, type: 'symlink', linkname: join(bench.folder, 'out') });
      tar.entry({ name: `${inside}/a` }, 'out');
    },
    'by another name': (tar) => void tar.entry({ name: `${inside}/a`, type: 'link', linkname: 'etc/passwd' }),
    'by another name, through a link': (tar) => {
      tar.entry({ name: `${inside}/a`, type: 'symlink', linkname: bench.folder });
      tar.entry({ name: `${inside}/b`, type: 'link', linkname: `${inside}/a/of-the-host` });
    },
    'a device': (tar) => void tar.entry({ name: `${inside}/a`, type: 'character-device' }),
  };
  await writeFile(join(bench.folder, 'of-the-host'), 'secret');
  for (const [how, fill] of Object.entries(hostile)) {
    const tar = pack();
    fill(tar);
    tar.finalize();
    const file = join(bench.folder, 'hostile.tar');
    await writeFile(file, await buffer(tar));
    await expect(keepResults(bench.dataDir.path, id, file), how).rejects.toThrow();
    expect(findResults(bench.dataDir.path, id), how).toBeUndefined();
  }
  expect(await readdir(bench.folder)).not.toContain('out');
  expect(await stat(join(bench.folder, 'of-the-host'))).toMatchObject({ uid: 0, nlink: 1 });
  expect(await readdir(join(bench.dataDir.path, 'environments/results'))).toEqual([]);
});

test('it is built once; a changed lockfile or command is another one, and a run asks for its own', async () => {
  const workspace = await bench.workspace(files);
  const policy = policyWith(['cp', 'deps.lock', '/opt/deps']);
  await expect(runner.open({ policy, workspace })).rejects.toMatchObject({
    code: 'image_not_found',
    message: expect.stringMatching(/glovebox env build/),
  });
  const first = await build(policy, workspace);
  expect(await build(policy, workspace)).toMatchObject({ upToDate: true, lock: { id: first.lock.id } });
  expect(await build(policy, await bench.workspace({ ...files, 'src/a.txt': 'other\n' }))).toMatchObject({
    upToDate: true,
  });

  await writeFile(join(workspace, 'deps.lock'), 'lib 2\n');
  await expect(runner.open({ policy, workspace })).rejects.toMatchObject({ code: 'image_not_found' });
  const second = await build(policy, workspace);
  expect(second.upToDate).toBe(false);
  expect(second.lock.key).not.toBe(first.lock.key);
  expect((await build(policyWith(['cp', 'deps.lock', '/opt/other']), workspace)).lock.key).not.toBe(second.lock.key);
  const run = await runner.open({ policy, workspace });
  expect(await text(run, 'cat /opt/deps')).toMatch(/^lib 2\n/);
  await run.close();
});

test('setup has no network, whatever the policy says; nothing but loopback is there', async () => {
  const lines: string[] = [];
  const built = await build(
    policyWith(sh('ls /sys/class/net; cat /proc/net/route | wc -l')),
    await bench.workspace(files),
    lines,
  );
  expect(lines.slice(2, 4)).toEqual(['lo', '1']);
  expect(built.lock.network).toBe(false);
  expect(() => parsePolicy(policyText([['true']], '  network: true\n'), 'p')).toThrow(/network/);
});

test('an operator may give setup a network; it is on record, and gone afterwards', async () => {
  const lines: string[] = [];
  const policy = policyWith(sh('ls /sys/class/net; tail -n +2 /proc/net/route | cut -f1 | sort -u'));
  const { lock } = await runner.buildEnvironment(policy.policy, undefined, {
    network: true,
    onProgress: (line) => void lines.push(line),
  });
  expect(lines.slice(2, 5)).toEqual(['eth0', 'lo', 'eth0']);
  expect(lock.network).toBe(true);
  const { stdout } = await execa('docker', [
    'network',
    'ls',
    '-q',
    '--filter',
    `label=${labelKeys.owner}=${bench.dataDir.owner}`,
  ]);
  expect(stdout).toBe('');
});

test('what an operator gives setup to get at registries is seen by setup alone; the lock names it, not what it says', async () => {
  const policy = join(bench.folder, 'access.yaml');
  const ca = join(bench.folder, 'ca.pem');
  await writeFile(ca, 'certificates\n');
  await writeFile(
    policy,
    policyText([sh('echo "$MIRROR" > /opt/seen; cat "$NPM_CONFIG_CAFILE" "$PIP_CERT" >> /opt/seen')]),
  );
  const given = ['--setup-env', 'MIRROR=https://mirror.invalid/x=y', '--setup-ca', ca];
  expect(await bench.cliHere(['env', 'build', '-p', policy, ...given])).toMatchObject({ exitCode: 0 });
  const [lock] = await listEnvironmentLocks(bench.dataDir.path);
  expect(lock?.access).toEqual({ variables: ['MIRROR'], ca: digestOf('certificates\n') });
  expect(JSON.stringify(lock)).not.toContain('mirror.invalid');
  const run = await runner.open({ policy: await loadPolicy(policy) });
  expect(
    await text(run, 'cat /opt/seen; env | grep -c -e MIRROR -e CAFILE -e PIP_CERT; ls /glovebox-setup || true'),
  ).toMatch(/^https:\/\/mirror\.invalid\/x=y\ncertificates\ncertificates\n0\n.*No such file/s);
  await run.close();
  expect(await bench.cliHere(['env', 'build', '-p', policy, '--setup-env', 'MIRROR'])).toMatchObject({
    exitCode: 125,
    stderr: expect.stringMatching(/NAME=VALUE/),
  });
});

test('a setup that fails says its last words and leaves nothing: no container, image or lock', async () => {
  const workspace = await bench.workspace(files);
  const fails = policyWith(sh('echo before'), sh('echo the reason >&2; exit 3'), sh('echo after'));
  const leaves = policyWith(sh('mkfifo /opt/pipe'));
  await expect(build(fails, workspace)).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(/exit code 3.*--setup-network[^]*the reason$/),
  });
  await expect(build(leaves, workspace)).rejects.toMatchObject({
    message: expect.stringMatching(/opt\/pipe: a device or FIFO/),
  });
  expect(await bench.containers()).toEqual([]);
  const tags = (await bench.engine.images()).flatMap((image) => image.tags).join('\n');
  for (const { policy } of [fails, leaves])
    expect(tags).not.toContain((await runner.findEnvironment(policy, workspace)).name);
  expect(await listEnvironmentLocks(bench.dataDir.path)).toEqual([]);
});

test('a setup that leaves more than the disk has room for fails before it is full, and leaves nothing', async () => {
  const small = await Bench.make({ dataDirBytes: 64 * 1024 * 1024 });
  try {
    const runnerThere = await Runner.create(small.engine, small.dataDir);
    const { policy } = policyWith(['truncate', '-s', '1T', '/opt/sparse']);
    const building = runnerThere.buildEnvironment(policy, undefined, { onProgress: () => undefined });
    await expect(building).rejects.toThrow(/left more than \d+ bytes/);
    expect((await readdir(small.dataDir.path)).filter((name) => name.startsWith('.partial'))).toEqual([]);
    expect(await small.containers()).toEqual([]);
    await runnerThere.close();
  } finally {
    await small.close();
  }
});

test('env build, ls and rm on the command line', async () => {
  const workspace = await bench.workspace(files);
  const policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, policyText([['cp', 'deps.lock', '/opt/deps'], sh("printf '\\033]0;owned\\007\\n'")]));
  const built = await bench.cliHere(['env', 'build', '-p', policy, '-w', workspace]);
  expect(built.stderr).toMatch(/\+ cp deps\.lock \/opt\/deps/);
  expect(built.stderr).toContain('\\x1b]0;owned\\x07\n');
  expect(built.stdout).toMatch(/^built env-[0-9a-f]{16} /);
  const ran = await bench.cliHere(['run', '-q', '-p', policy, '-w', workspace, '--', 'cat', '/opt/deps']);
  expect(ran).toMatchObject({ exitCode: 0, stdout: 'lib 1' });
  const [listed] = JSON.parse((await bench.cliHere(['env', 'ls', '--json'])).stdout) as {
    name: string;
    state: string;
  }[];
  expect(listed?.state).toBe('ready');
  expect((await bench.cliHere(['env', 'rm', listed?.name ?? ''])).exitCode).toBe(0);
  expect((await bench.cliHere(['env', 'ls'])).stdout).toMatch(/no environments yet/);
  const again = await bench.cliHere(['run', '-q', '-p', policy, '-w', workspace, '--', 'true']);
  expect(again).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/glovebox env build/) });
  expect(await readFile(join(bench.dataDir.path, 'images.json'), 'utf8')).not.toContain('env-');
});

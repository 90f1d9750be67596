import { readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { work } from '../examples/harness.ts';
import { embed } from '../src/api/embed.ts';
import { GloveboxClient, type ToolCallInput } from '../src/client/client.ts';
import { openService } from '../src/service/open-service.ts';
import { ServiceLock } from '../src/service/service-lock.ts';
import { Bench, program, smallPolicyText } from './fixtures/bench.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

let bench: Bench;

beforeAll(async () => {
  bench = await Bench.make();
});
afterAll(async () => {
  const holder = await ServiceLock.holder(bench.dataDir.path);
  if (holder !== undefined) process.kill(holder.pid, 'SIGTERM');
  await bench.close();
});

interface Step {
  readonly name?: string;
  readonly run?: string;
}

test('the job of docs/ci.md does what it says: its commands, in their order, over a checkout', async () => {
  const text = await readFile(join(root, 'examples/ci/github-actions.yml'), 'utf8');
  const { jobs } = parse(text) as { jobs: { agent: { steps: Step[] } } };
  const checkout = await mkdtemp(join(bench.folder, 'checkout-'));
  await cp(join(root, 'examples/ci'), join(checkout, 'examples/ci'), { recursive: true });
  const ran: string[] = [];
  for (const { name = '', run } of jobs.agent.steps) {
    if (run === undefined || name === 'Install') continue;
    const script = run.replaceAll(/\$\{\{[^}]*\}\}/g, 'a title').replaceAll('glovebox ', `"$NODE" "$PROGRAM" `);
    const { exitCode, stderr, stdout } = await execa('bash', ['-e', '-c', script], {
      cwd: checkout,
      reject: false,
      env: { GLOVEBOX_DATA: bench.dataDir.path, NODE: process.execPath, PROGRAM: program, NO_COLOR: '1' },
    });
    expect(exitCode, `${name}: ${stdout} ${stderr}`).toBe(0);
    ran.push(name);
  }
  expect(ran).toEqual(['Open', 'Work', 'Close', 'Report', 'Keep']);
  const read = (file: string): Promise<string> => readFile(join(checkout, file), 'utf8');
  expect(await read('changes.patch')).toMatch(/^\+answer = 42$/m);
  expect(await read('junit.xml')).toContain('tests="3" failures="0"');
  expect(JSON.parse(await read('glovebox.sarif'))).toMatchObject({ version: '2.1.0', runs: [{ results: [] }] });
  // The page shows the same commands.
  const page = await readFile(join(root, 'docs/ci.md'), 'utf8');
  for (const command of ['open --name ci -p examples/ci/policy.yaml', 'close ci', 'report ci --junit junit.xml'])
    expect([page.includes(command), text.includes(command)]).toEqual([true, true]);
});

describe('the harness of examples/', () => {
  let client: GloveboxClient;
  let other: Bench;

  beforeAll(async () => {
    other = await Bench.make();
    client = GloveboxClient.within(embed(await openService({ engine: other.engine, dataDir: other.dataDir })));
  });
  afterAll(async () => {
    await client.close();
    await other.close();
  });

  test('lets a model work until it is done, through failures and denials, and returns the patch', async () => {
    const workspace = await other.workspace({ 'src/sum.sh': 'echo $(($1 - $2))\n' });
    const seen: string[] = [];
    const script: ToolCallInput[] = [
      { tool: 'exec', script: '[ "$(sh src/sum.sh 2 3)" = 5 ]' },
      { tool: 'write', path: '/etc/passwd', content: { utf8: 'x' } },
      { tool: 'edit', path: 'src/sum.sh', old: '$1 - $2', new: '$1 + $2' },
      { tool: 'exec', script: 'sleep 0.3; [ "$(sh src/sum.sh 2 3)" = 5 ] && echo passed', yieldMs: 10 },
    ];
    const patch = await work(
      async (text) => {
        seen.push(text);
        return script.shift() ?? 'done';
      },
      client,
      { policy: { text: smallPolicyText() }, workspace },
    );
    expect(patch).toMatch(/^\+echo \$\(\(\$1 \+ \$2\)\)$/m);
    expect(seen[1]).toMatch(/Exit code 1/);
    expect(seen[2]).toMatch(/permission_denied|[Dd]enied/);
    expect(seen[4]).toMatch(/passed\nExit code 0/);
    expect((await client.runs.list()).runs[0]).toMatchObject({ state: 'closed', outcome: 'finished' });
  });

  test('closes the run as failed when the model breaks', async () => {
    const broken = work(async () => Promise.reject(new Error('no tokens left')), client, {
      policy: { text: smallPolicyText() },
    });
    await expect(broken).rejects.toThrow('no tokens left');
    expect((await client.runs.list()).runs[0]).toMatchObject({ state: 'closed', outcome: 'failed' });
  });
});

test('glovebox/client is importable from the package, at once, and loads nothing else of it', async () => {
  const hook = `export async function resolve(specifier, context, next) {
    const found = await next(specifier, context);
    if (found.url.startsWith('file:')) process._rawDebug(found.url);
    return found;
  }`;
  const script = `import { register } from 'node:module';
    register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hook)}));
    const { GloveboxClient } = await import('glovebox/client');
    if (typeof GloveboxClient.embedded !== 'function') process.exit(1);`;
  const ran = await execa(process.execPath, ['--input-type=module', '-e', script], { cwd: root, reject: false });
  expect(ran.exitCode, ran.stderr).toBe(0);
  const loaded = ran.stderr.split('\n').map((url) => readFileSync(`${fileURLToPath(url)}.map`, 'utf8'));
  const sources = loaded.flatMap((map) => (JSON.parse(map) as { sources: string[] }).sources);
  const files = sources.map((source) => source.slice(source.lastIndexOf('/src/') + '/src/'.length));
  expect(files.length).toBeGreaterThan(5);
  expect(new Set(files.filter((file) => !file.startsWith('client/')))).toEqual(new Set(['errors.ts', 'ids.ts']));
});

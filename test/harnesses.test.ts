import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import { Bench, program } from './fixtures/bench.ts';
import { npmProgram, type NpmProgram } from './fixtures/npm-program.ts';
import { PlayedModel, type Step } from './fixtures/played-model.ts';

/** The real programs from npm, in the versions that docs/harnesses.md names, with a model that the test plays. */
const platform = `${process.platform}-${process.arch}`;
const examples = fileURLToPath(new URL('../examples/', import.meta.url));
const policy = join(examples, 'harness-policy.yaml');

let bench: Bench;
let codex: NpmProgram;
let claude: NpmProgram;
const models: PlayedModel[] = [];

beforeAll(async () => {
  bench = await Bench.make();
  const triple = process.arch === 'x64' ? 'x86_64-unknown-linux-musl' : 'aarch64-unknown-linux-musl';
  codex = await npmProgram('@openai/codex', '0.169.0', `@openai/codex-${platform}/vendor/${triple}/bin/codex`);
  claude = await npmProgram('@anthropic-ai/claude-code', '2.1.330', `@anthropic-ai/claude-code-${platform}/claude`);
}, 900_000);
afterEach(async () => {
  for (const model of models.splice(0)) await model.close();
});
afterAll(() => bench.close());

const files = {
  'greet.py': 'def greet(name):\n    return "Hello, " + nam\n',
  'test_greet.py': 'from greet import greet\nassert greet("Ada") == "Hello, Ada"\nprint("all is well")\n',
  '.env': 'SECRET=1\n',
};

async function play(steps: readonly Step[]): Promise<PlayedModel> {
  const model = await PlayedModel.start(steps);
  models.push(model);
  return model;
}

/** As somebody would start it in their project, with a home of its own and no key that means anything. */
async function start(path: string, args: readonly string[], cwd: string, env: Record<string, string>): Promise<string> {
  const home = join(bench.folder, 'home');
  await mkdir(home, { recursive: true });
  const ran = await execa(path, args, {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', HOME: home, GLOVEBOX_DATA: bench.dataDir.path, NO_COLOR: '1', ...env },
    extendEnv: false,
    stdin: 'ignore',
    reject: false,
    timeout: 90_000,
    all: true,
  });
  expect(ran.exitCode, ran.all).toBe(0);
  return ran.all;
}

/** What came out of the one run that there was: nothing is left of it but its record. */
async function outcome(workspace: string): Promise<{ patch: string; journal: string }> {
  const [run] = (await bench.dataDir.listRuns()).toSorted((a, b) => (a.id < b.id ? 1 : -1));
  if (run === undefined) throw new Error('there is no run');
  await expect.poll(async () => (await checkJournal(run.journal)).verdict, { timeout: 15_000 }).toBe('closed');
  expect(await checkJournal(run.journal)).toMatchObject({ findings: [] });
  await expect.poll(() => bench.containers(), { timeout: 15_000 }).toEqual([]);
  expect(await readFile(run.journal, 'utf8')).toContain('"outcome":"finished"');
  expect(await readFile(join(workspace, 'greet.py'), 'utf8')).toBe(files['greet.py']);
  return { patch: await readFile(run.patch, 'utf8'), journal: await readFile(run.journal, 'utf8') };
}

test('Codex works in a sandbox: it edits a file, runs a test, is refused something, and the diff comes out', async (context) => {
  if (codex.kind === 'missing') return context.skip(codex.why);
  const workspace = await bench.workspace(files);
  const patch =
    '*** Begin Patch\n*** Update File: greet.py\n@@\n-    return "Hello, " + nam\n+    return "Hello, " + name\n*** End Patch\n';
  const model = await play([
    { tool: 'exec_command', input: { cmd: 'python3 test_greet.py; ls -a; touch /etc/x' } },
    { tool: 'apply_patch', input: patch },
    { tool: 'exec_command', input: { cmd: 'python3 test_greet.py && pwd' } },
    { tool: 'exec_command', input: { cmd: 'npm publish' } },
    { says: 'done' },
  ]);
  const home = join(bench.folder, 'codex');
  await mkdir(home);
  const environments = await readFile(join(examples, 'codex/environments.toml'), 'utf8');
  await writeFile(
    join(home, 'environments.toml'),
    environments
      .replace('program = "glovebox"', `program = ${JSON.stringify(process.execPath)}`)
      .replace('"bridge"', `${JSON.stringify(program)}, "bridge"`)
      .replace('"policy.yaml"', JSON.stringify(policy)),
  );
  const provider = `[model_providers.played]\nname = "played"\nbase_url = "${model.url}/v1"\nwire_api = "responses"\n`;
  const mine = `model = "gpt-5.5"\nmodel_provider = "played"\ncheck_for_update_on_startup = false\n`;
  const ours = await readFile(join(examples, 'codex/config.toml'), 'utf8');
  await writeFile(join(home, 'config.toml'), `${mine}${ours}\n[analytics]\nenabled = false\n${provider}`);

  await start(codex.path, ['exec', '--skip-git-repo-check', '--json', 'Mend greet.py.'], workspace, {
    CODEX_HOME: home,
  });

  expect(model.told).toHaveLength(4);
  expect(model.told[0]).toMatch(/NameError: name 'nam' is not defined/);
  expect(model.told[0]).toMatch(/touch: cannot touch '\/etc\/x'/);
  expect(model.told[0]).not.toMatch(/\.env/);
  expect(model.told[2]).toMatch(/all is well\\n\/workspace/);
  expect(model.told[3]).toMatch(/Denied: .*rule no-publishing/);
  const { patch: came, journal } = await outcome(workspace);
  expect(came).toContain('+    return "Hello, " + name');
  expect(journal).toContain('"claims":');
});

test('Claude Code works in a sandbox, with none of its own tools, and the diff comes out', async (context) => {
  if (claude.kind === 'missing') return context.skip(claude.why);
  const workspace = await bench.workspace(files);
  const escaped = join(bench.folder, 'escaped');
  const model = await play([
    { tool: 'mcp__glovebox__exec', input: { script: 'python3 test_greet.py; ls -a' } },
    { tool: 'Bash', input: { command: `touch ${escaped}`, description: 'leaves' } },
    { tool: 'Write', input: { file_path: escaped, content: 'out' } },
    { tool: 'mcp__glovebox__edit', input: { path: 'greet.py', old: '+ nam\n', new: '+ name\n' } },
    { tool: 'mcp__glovebox__exec', input: { script: 'python3 test_greet.py && pwd' } },
    { tool: 'mcp__glovebox__exec', input: { script: 'npm publish' } },
    { tool: 'mcp__glovebox__read', input: { path: '.env' } },
    { says: 'done' },
  ]);
  const servers = join(bench.folder, 'mcp.json');
  const example = await readFile(join(examples, 'claude-code/mcp.json'), 'utf8');
  await writeFile(
    servers,
    example
      .replace('"command": "glovebox"', `"command": ${JSON.stringify(process.execPath)}`)
      .replace('["mcp"', `[${JSON.stringify(program)}, "mcp"`)
      .replace('"policy.yaml"', JSON.stringify(policy)),
  );
  const args = ['-p', 'Mend greet.py.', '--tools', '', '--settings', join(examples, 'claude-code/settings.json')];
  const all = [...args, '--strict-mcp-config', '--mcp-config', servers, '--output-format', 'stream-json', '--verbose'];
  await start(claude.path, all, workspace, {
    ANTHROPIC_BASE_URL: model.url,
    ANTHROPIC_API_KEY: 'nobody',
    CLAUDE_CONFIG_DIR: join(bench.folder, 'claude'),
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    DISABLE_AUTOUPDATER: '1',
  });

  const offered = (JSON.parse(model.requests[0] ?? '{}') as { tools: { name: string }[] }).tools.map(
    ({ name }) => name,
  );
  expect(offered).toContain('mcp__glovebox__exec');
  expect(offered.filter((name) => !/^mcp__glovebox__|Placeholder$/.test(name))).toEqual([]);
  const told = model.told
    .map((body) => (JSON.parse(body) as { messages: unknown[] }).messages)
    .map((all) => JSON.stringify(all));
  expect(told[0]).toMatch(/NameError: name 'nam' is not defined/);
  expect(told[1]).toMatch(/No such tool available: Bash/);
  expect(told[2]).toMatch(/No such tool available: Write/);
  expect(told[4]).toMatch(/all is well\\n\/workspace/);
  expect(told[5]).toMatch(/Denied: .*rule no-publishing/);
  expect(told[6]).toMatch(/\.env.* is kept out of the sandbox/);
  await expect(access(escaped)).rejects.toThrow();
  expect((await outcome(workspace)).patch).toContain('+    return "Hello, " + name');
});

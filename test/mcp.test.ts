import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { mcpClient, type Answer, type Era, type McpClient, type Shown } from './fixtures/mcp-client.ts';

let bench: Bench;
let policy: string;

const rules = `approvals:
  categories: { dependency: { timeout: 20s }, blessing: { timeout: 20s, reason_required: true } }
tools: { allow: [exec, exec_poll, exec_list, read, edit, write] }
commands:
  - { id: pull, match: { program: curl }, effect: require_approval, category: dependency, tests: { match: [curl x] } }
  - { id: push, match: { program: git, subcommand: push }, effect: deny, tests: { match: [git push] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;

beforeAll(async () => {
  bench = await Bench.make();
  policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, smallPolicyText(rules));
});
afterAll(() => bench.close());

async function start(era: Era, answer?: (shown: Shown) => Answer): Promise<McpClient> {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n', '.env': 'SECRET=1\n' });
  return mcpClient(bench, ['-p', policy, '-w', workspace], { era, ...(answer === undefined ? {} : { answer }) });
}

interface Reply {
  readonly text: string;
  readonly isError: boolean;
  readonly structured: Record<string, unknown>;
}

async function call({ client }: McpClient, name: string, args: Record<string, unknown>): Promise<Reply> {
  const { content, isError, structuredContent } = await client.callTool({ name, arguments: args });
  const [first] = content;
  return {
    text: first?.type === 'text' ? first.text : '',
    isError: isError === true,
    structured: structuredContent as Record<string, unknown>,
  };
}

async function lastRun(): Promise<{ id: string; journal: string; patch: string }> {
  const run = (await bench.dataDir.listRuns()).toSorted((a, b) => (a.id < b.id ? -1 : 1)).at(-1);
  if (run === undefined) throw new Error('there is no run');
  return run;
}

describe.each<Era>(['legacy', 'modern'])('a client of the %s protocol', (era) => {
  test('works in the sandbox: tools of the class, results, refusals, progress, resources, and a diff that stays', async () => {
    const mcp = await start(era);
    const { tools } = await mcp.client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(['exec', 'exec_poll', 'exec_list', 'read', 'write', 'edit']);
    expect(tools.find(({ name }) => name === 'exec')?.annotations).toEqual({
      readOnlyHint: false,
      destructiveHint: true,
      idempotentHint: false,
      openWorldHint: false,
    });
    expect(tools.find(({ name }) => name === 'read')?.annotations?.readOnlyHint).toBe(true);

    expect(await call(mcp, 'exec', { script: 'cat src/a.txt; ls .env; exit 3' })).toMatchObject({
      text: expect.stringMatching(/^one\nls: .*\nExit code [23]\.$/s) as string,
      isError: false,
      structured: { ok: false, state: 'ended', exitCode: 3 },
    });
    expect(await call(mcp, 'edit', { path: 'src/a.txt', old: 'one', new: 'two' })).toMatchObject({ isError: false });
    expect(await call(mcp, 'exec', { script: 'true && git push' })).toMatchObject({
      isError: true,
      text: expect.stringMatching(/^Denied: .*rule push/) as string,
      structured: { ok: false, error: { code: 'denied' } },
    });
    expect(await call(mcp, 'write', { path: 'src/b', content: 'not bytes' })).toMatchObject({
      isError: true,
      structured: { error: { code: 'invalid_request' } },
    });
    await expect(call(mcp, 'grep', { pattern: 'x' })).rejects.toThrow(/no tool grep is offered/);

    const told: string[] = [];
    await mcp.client.callTool(
      { name: 'exec', arguments: { script: 'echo begun; sleep 1.2; echo over' } },
      { onprogress: ({ message = '' }) => told.push(message) },
    );
    expect(told.join('')).toContain('begun');

    const [patch] = (await mcp.client.readResource({ uri: 'glovebox://run/patch' })).contents;
    expect(patch).toMatchObject({ text: expect.stringMatching(/-one\n\+two/) as string });
    const [journal] = (await mcp.client.readResource({ uri: 'glovebox://run/journal?from=2' })).contents;
    expect(journal).toMatchObject({ text: expect.stringMatching(/^\{"v":1,"seq":2,.*call\.denied/s) as string });
    await expect(mcp.client.readResource({ uri: 'glovebox://run/secrets' })).rejects.toThrow(/there is no resource/);

    await mcp.leave();
    const run = await lastRun();
    expect(mcp.said()).toMatch(new RegExp(`modified\\s+src/a.txt.*glovebox diff ${run.id}`, 's'));
    expect(await readFile(run.patch, 'utf8')).toContain('+two');
    expect(await checkJournal(run.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    expect(await bench.containers()).toEqual([]);
  });

  test('a call that is cancelled ends in the sandbox', async () => {
    const mcp = await start(era);
    const cancelling = new AbortController();
    const { signal } = cancelling;
    const long = mcp.client.callTool(
      { name: 'exec', arguments: { script: 'echo up; sleep 60', yieldMs: 60_000 } },
      { signal, onprogress: () => cancelling.abort() },
    );
    await expect(long).rejects.toThrow();
    await expect
      .poll(async () => (await call(mcp, 'exec_list', {})).structured['calls'], { timeout: 5_000 })
      .toMatchObject([{ state: 'ended' }]);
    await mcp.leave();
  });

  test('the person at the client approves exactly what is shown, and says no to the rest', async () => {
    const shown: string[] = [];
    const answers: Answer[] = [
      { action: 'accept', content: { approve: true } },
      { action: 'accept', content: { approve: false, reason: 'not today' } },
      { action: 'decline' },
    ];
    const mcp = await start(era, ({ message }) => {
      shown.push(message);
      return answers[shown.length - 1] ?? { action: 'cancel' };
    });
    const script = 'curl --version >/dev/null 2>&1; echo went on # \u001b[2J\u202e';
    expect(await call(mcp, 'exec', { script })).toMatchObject({
      isError: false,
      text: expect.stringContaining('went on') as string,
    });
    expect(await call(mcp, 'exec', { script: 'curl a' })).toMatchObject({
      isError: true,
      text: expect.stringContaining('not today') as string,
    });
    expect(await call(mcp, 'exec', { script: 'curl b' })).toMatchObject({
      isError: true,
      text: expect.stringContaining('declined') as string,
    });
    expect(await call(mcp, 'exec', { script: 'curl c' })).toMatchObject({
      isError: true,
      text: expect.stringContaining('dismissed') as string,
    });
    expect(shown).toHaveLength(4);
    expect(shown[0]).toMatch(/^Approval needed: dependency \(rule pull/);
    expect(shown[0]).toContain('    | {"');
    expect(shown.join('')).not.toMatch(/[\u001b\u202e]/u);
    await mcp.leave();
    expect(await checkJournal((await lastRun()).journal)).toMatchObject({ verdict: 'closed', findings: [], denied: 3 });
  });
});

test('where the client cannot ask anybody, what needs an approval is denied at once', async () => {
  const mcp = await start('legacy');
  expect(await call(mcp, 'exec', { script: 'curl x' })).toMatchObject({
    isError: true,
    text: expect.stringContaining('the client has nobody to ask') as string,
  });
  await mcp.leave();
});

test('a client that kills its server at once loses nothing: the run closes by itself', async () => {
  const mcp = await start('legacy');
  await call(mcp, 'edit', { path: 'src/a.txt', old: 'one', new: 'two' });
  mcp.kill();
  await mcp.leave();
  const run = await lastRun();
  expect(await checkJournal(run.journal)).toMatchObject({ verdict: 'closed', findings: [] });
  expect(await readFile(run.journal, 'utf8')).toMatch(/"outcome":"finished"/);
  expect(await readFile(run.patch, 'utf8')).toContain('+two');
});

test('a run that cannot be opened is told to the client as long as it asks, and on standard error', async () => {
  const mcp = await mcpClient(bench, ['-p', policy, '-w', '/nowhere'], { era: 'legacy' });
  expect(await call(mcp, 'exec', { script: 'true' })).toMatchObject({ isError: true, text: /\/nowhere/ });
  expect(await call(mcp, 'exec', { script: 'true' })).toMatchObject({ isError: true, text: /\/nowhere/ });
  expect(mcp.said()).toMatch(/\/nowhere/);
  await mcp.leave();
});

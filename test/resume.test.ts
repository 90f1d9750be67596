import { describe, expect, test } from 'vitest';
import { failpoints, resumeFailpoints } from '../src/failpoint.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import type { Run } from '../src/runner.ts';
import type { ToolCallInput } from '../src/tools/tool-call.ts';
import { smallPolicyText } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';
import { Served } from './fixtures/served.ts';

/** A runner that is killed anywhere loses nothing: the next one goes on where it stood. */
const { bench, runner } = await openRunnerBench();

const counting =
  'n=0; while [ $n -lt 400 ]; do n=$((n + 1)); echo "line $n"; [ $((n % 100)) -eq 0 ] && sleep 0.2; done';
const session: readonly (readonly [string, ToolCallInput])[] = [
  ['counting', { tool: 'exec', script: `${counting}; echo x >> src/counted; exit 7`, yieldMs: 50 }],
  ['edit', { tool: 'write', path: 'src/two', content: { utf8: 'two\n' } }],
  ['short', { tool: 'exec', script: 'echo y >> src/short; echo out; echo err >&2; exit 3' }],
  ['denied', { tool: 'write', path: 'outside', content: { utf8: 'no\n' } }],
  ['last', { tool: 'exec', script: 'echo z >> src/last; cat src/short' }],
];
const whole = Array.from({ length: 400 }, (_, n) => `line ${n + 1}\n`).join('');
/** At each of them once, in a command or in a file verb. */
const nth = {
  'call.intended': 2,
  'call.dispatched': 2,
  'call.ended': 3,
  'call.kept': 2,
  'call.recorded': 1,
  'call.answered': 4,
};
const callFailpoints = failpoints.filter((name) => name.startsWith('call.'));

async function entriesOf(run: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(bench.dataDir.runDir(run).journal)) entries.push(entry);
  return entries;
}

async function die(failpoint: string): Promise<Served> {
  const workspace = await bench.workspace({ 'src/zero': 'zero\n' });
  const served = await Served.open({ data: bench.dataDir.path, policy: smallPolicyText(), workspace }, failpoint);
  if (served === undefined) throw new Error('it died before it was open');
  for (const [callId, call] of session) if ((await served.call(callId, call)) === undefined) break;
  expect(await served.died()).toContain(failpoint.split(':')[0]);
  return served;
}

/** Everything once, whoever did it. */
async function expectWhole(run: Run, before: Served): Promise<void> {
  const unknown = new Set<string>();
  for (const [callId, call] of session) {
    const known = before.answers.get(callId);
    const result = await run.call(callId, call).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'outcome_unknown' });
      unknown.add(callId);
      return undefined;
    });
    if (known !== undefined) expect(result, callId).toEqual(known);
  }
  for (const callId of unknown) expect(['short', 'edit', 'last', 'counting']).toContain(callId);
  for (let more = !unknown.has('counting'); more;) {
    const polled = await run.poll('counting', 5_000);
    more = polled.data?.kind === 'exec' && polled.data.state === 'running';
  }
  if (!unknown.has('counting')) {
    const printed = await run.call('all', { tool: 'output', callId: 'counting', offset: 0, maxBytes: 100_000 });
    expect(printed.data).toMatchObject({ content: { text: whole }, ended: true });
  }
  await run.close();
  const changes = [...(run.candidate?.changeSet.changes.keys() ?? [])];
  const patch = run.candidate?.patch.bytes.toString() ?? '';
  for (const [file, mark] of [
    ['counted', '+x'],
    ['short', '+y'],
    ['last', '+z'],
  ] as const) {
    const times = patch.split('\n').filter((line) => line === mark).length;
    expect(times, `${file} was made once at most`).toBeLessThanOrEqual(1);
  }
  if (!unknown.has('short')) expect(changes).toContain('src/short');
  const check = await checkJournal(run.dir.journal);
  expect(check).toMatchObject({ verdict: 'closed', findings: [], openCalls: [] });
  const entries = await entriesOf(run.id);
  const ends = entries.filter((entry) => entry.type === 'call.ended').map(({ data }) => data);
  for (const { outcome, exitCode } of ends) if (outcome.kind === 'unknown') expect(exitCode).toBeUndefined();
  const intended = entries.filter((entry) => entry.type === 'call.intended');
  expect(intended.map(({ data }) => data.count)).toEqual(intended.map((_, n) => n + 1));
  if (!unknown.has('short')) expect(ends.find(({ callId }) => callId === 'short')).toMatchObject({ exitCode: 3 });
  expect(await bench.containers()).not.toContain(`glovebox-${run.sandbox.spec.id}`);
}

describe('killed at a failpoint of a call', () => {
  test.each(callFailpoints.map((name) => `${name}:kill:${new Map(Object.entries(nth)).get(name) ?? 1}`))(
    '%s',
    async (failpoint) => {
      const served = await die(failpoint);
      const run = await runner.resume(served.run);
      expect(run.remaining().calls).toBe(
        50 - (await entriesOf(run.id)).filter(({ type }) => type === 'call.intended').length,
      );
      await expectWhole(run, served);
    },
  );
});

test('who dies while it resumes leaves a run that can be resumed, wherever that is', async () => {
  const served = await die('call.recorded:kill:3');
  for (const name of resumeFailpoints) {
    const again = await Served.open({ data: bench.dataDir.path, policy: '', resume: served.run }, `${name}:kill`);
    expect(again, name).toBeUndefined();
  }
  await expectWhole(await runner.resume(served.run), served);
});

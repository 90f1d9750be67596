import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failpoints, resumeFailpoints, type Failpoint } from '../../src/failpoint.ts';
import { checkJournal } from '../../src/journal/check.ts';
import { readEntries } from '../../src/journal/read.ts';
import { recover } from '../../src/recovery.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { DyingService, type Answer } from '../fixtures/dying-service.ts';

/**
 * A service under load is killed at every failpoint, again and again, and started anew. From the journals, the files in the sandboxes
 * and the engine: no call was lost, none was made twice, and what is unknown says so. The same seed makes the same calls and
 * the same deaths: `GLOVEBOX_SEED=1 SOAK_PARALLEL=10 npx vitest run --project soak test/soak/crash.test.ts`.
 */
const seed = Number(process.env['GLOVEBOX_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const parallel = Number(process.env['SOAK_PARALLEL'] ?? 10);
const callsPerRound = 4;
const policy = { text: smallPolicyText('budget: { max_actions_per_run: 2000, max_parallel_actions: 16 }\n') };

let bench: Bench;
let service: DyingService;

beforeAll(async () => {
  bench = await Bench.make();
  service = new DyingService(bench.dataDir.path);
});
afterAll(async () => {
  service.kill();
  await recover(bench.engine, bench.dataDir).catch(() => undefined); // of a test that failed
  await bench.close();
});

/** mulberry32 */
function random(from: number): () => number {
  let state = from >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a harness knows of one run. */
interface Driven {
  readonly id: string;
  readonly done: Set<string>;
  readonly unknown: Set<string>;
}

async function openRun(key: string): Promise<Driven> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const headers = { 'idempotency-key': `${key}-${attempt}` };
    const { status, json } = await service.insist('POST', '/v1/runs', { policy }, headers);
    // One whose opening was cut short is closed as lost: a good client opens another.
    const id = String(json['id']);
    if ((status === 200 || status === 201) && json['state'] === 'open')
      return { id, done: new Set(), unknown: new Set() };
    await sleep(100);
  }
  throw new Error(`${key}: no run was opened`);
}

/** Each command and each write leaves exactly one mark of its own. */
async function makeCall(run: Driven, callId: string, kind: number): Promise<void> {
  const path = `/v1/runs/${run.id}/calls/${callId}`;
  const body =
    kind < 0.3
      ? { tool: 'write', path: `src/w-${callId}`, content: { utf8: `${callId}\n` }, create: 'only' }
      : { tool: 'exec', script: `mkdir -p src; echo ${callId} >> src/log; seq 1 200; echo ${callId}`, yieldMs: 20_000 };
  const answer = await service.insist('PUT', path, body);
  if (answer.json['code'] === 'outcome_unknown') return void run.unknown.add(callId);
  expect(answer.status, JSON.stringify(answer.json).slice(0, 500)).toBe(200);
  expect(answer.json, callId).toMatchObject({ callId, ok: true });
  if (kind >= 0.3)
    expect(textOf(answer)).toBe(`${Array.from({ length: 200 }, (_, n) => n + 1).join('\n')}\n${callId}\n`);
  expect((await service.insist('PUT', path, body)).json).toEqual(answer.json);
  run.done.add(callId);
}

function textOf({ json }: Answer): string {
  const { output } = json['data'] as { output: { text: string } };
  return output.text;
}

async function expectTrue(run: Driven): Promise<void> {
  const { status, json } = await service.insist('POST', `/v1/runs/${run.id}/close`, {});
  expect(status, JSON.stringify(json)).toBeLessThan(300);
  const dir = bench.dataDir.runDir(run.id);
  expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed', findings: [], openCalls: [] });
  const ends = new Map<string, string>();
  let calls = 0;
  for await (const entry of readEntries(dir.journal)) {
    if (entry.type === 'call.intended') expect(entry.data.count, 'the budget counts each call once').toBe(++calls);
    if (entry.type === 'call.ended') ends.set(entry.data.callId, entry.data.outcome.kind);
    if (entry.type === 'call.ended' && entry.data.outcome.kind === 'unknown')
      expect(entry.data.exitCode).toBeUndefined();
  }
  for (const id of run.done) expect(ends.get(id), id).toMatch(/^(exited|done)$/);
  const patch = await service.insist('GET', `/v1/runs/${run.id}/diff`);
  const changes = (patch.json['changes'] as { path: string; added?: number }[]).map(({ path }) => path);
  for (const id of run.done) if (ends.get(id) === 'done') expect(changes).toContain(`src/w-${id}`);
  const marks = await marksOf(run);
  for (const [id, count] of marks) expect(count, `${id} was made once`).toBe(1);
  for (const id of run.done) if (ends.get(id) === 'exited') expect(marks.get(id), id).toBe(1);
}

/** How often each command has left its mark. */
async function marksOf(run: Driven): Promise<ReadonlyMap<string, number>> {
  const marks = new Map<string, number>();
  const patch = await readFile(bench.dataDir.runDir(run.id).patch, 'utf8');
  const log = patch.split(/^diff --git /m).find((part) => part.startsWith('a/src/log ')) ?? '';
  for (const [, id = ''] of log.matchAll(/^\+(r\S+)$/gm)) marks.set(id, (marks.get(id) ?? 0) + 1);
  return marks;
}

test(`${parallel} runs under load, killed at every failpoint (seed ${seed}): no call is lost or made twice`, async () => {
  const next = random(seed);
  const names: readonly Failpoint[] = [...failpoints, ...resumeFailpoints];
  await service.start();
  let runs = await Promise.all(Array.from({ length: parallel }, (_, n) => openRun(`first-${n}`)));
  const [all, times]: [Driven[], number[]] = [[...runs], []];
  for (const [round, name] of names.entries()) {
    const nth = 1 + Math.floor(next() * (name.startsWith('call.') ? parallel * 2 : 2));
    const startMs = performance.now();
    service.kill();
    await service.died().catch(() => undefined);
    const started = await service.start(`${name}:kill:${name.startsWith('resume.') ? Math.min(nth, parallel) : nth}`);
    const kinds = runs.map(() => Array.from({ length: callsPerRound }, () => next()));
    const load = Promise.all(
      runs.map(async (run, n) => {
        for (const [at, kind] of (kinds[n] ?? []).entries()) await makeCall(run, `r${round}-${n}-${at}`, kind);
      }),
    );
    // Beside the load runs come and go, so that opening and closing are reached too.
    const turnover = Promise.all(
      [0, 1, 2].map(async (n) => {
        const run = await openRun(`round-${round}-${n}`);
        await makeCall(run, `r${round}-extra-${n}`, 0.5);
        await expectTrue(run);
      }),
    );
    const settled = Promise.allSettled([load, turnover]);
    const said = await Promise.race([service.died(), settled.then(() => 'never reached')]);
    expect(said, name).toContain(`failpoint ${name}`);
    expect(started || name.startsWith('resume.')).toBe(true);
    expect(await service.start(), 'the next one starts').toBe(true);
    for (const each of await settled) if (each.status === 'rejected') throw each.reason;
    times.push(performance.now() - startMs);
  }
  for (const run of runs) await expectTrue(run);
  const unknown = all.reduce((sum, run) => sum + run.unknown.size, 0);
  const made = all.reduce((sum, run) => sum + run.done.size, 0);
  console.log(`seed ${seed}: ${names.length} deaths, ${made} calls answered, ${unknown} unknown`);
  runs = [];
  expect(await service.stop()).toBe(0);
  expect(await bench.containers()).toEqual([]);
  expect(await bench.dataDir.listInstances()).toEqual([]);
});

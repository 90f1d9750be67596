import { execa } from 'execa';
import { afterEach, beforeAll, afterAll, expect, test } from 'vitest';
import { errorTable } from '../../src/errors.ts';
import { checkJournal } from '../../src/journal/check.ts';
import { recover } from '../../src/recovery.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { DyingService, type Answer } from '../fixtures/dying-service.ts';
import { PrivateEngine } from '../fixtures/private-engine.ts';

/** What a service says when its engine or its disk fails: a code of the table, in time, and never a wrong answer. */
let own: PrivateEngine;
let image: string;
let bench: Bench;
let service: DyingService;

beforeAll(async () => {
  own = await PrivateEngine.start();
  image = await own.image();
});
afterEach(async () => {
  own.signal('SIGCONT');
  service.kill();
  await service.died().catch(() => undefined);
  await recover(await own.connect(), bench.dataDir).catch(() => undefined);
  await bench.close();
});
afterAll(() => own.close());

async function served(options: { dataDirBytes?: number } = {}): Promise<string> {
  bench = await Bench.make(options);
  service = new DyingService(bench.dataDir.path, { DOCKER_HOST: `unix://${own.socket}` });
  await service.start();
  return openRun();
}

async function openRun(): Promise<string> {
  const text = smallPolicyText().replace('[base]', `[${image}]`);
  const { status, json } = await service.insist('POST', '/v1/runs', { policy: { text } });
  expect(status, JSON.stringify(json)).toBe(201);
  return String(json['id']);
}

function echo(run: string, callId: string): Promise<Answer | undefined> {
  return service.ask('PUT', `/v1/runs/${run}/calls/${callId}`, { tool: 'exec', script: `echo ${callId}` });
}

/** An answer that is true, or a failure with a code of ours. */
function expectTyped(answer: Answer | undefined): string {
  expect(answer).toBeDefined();
  const code = String(answer?.json['code']);
  expect(Object.keys(errorTable), JSON.stringify(answer?.json)).toContain(code);
  expect(code).not.toBe('internal');
  return code;
}

test('an engine that is stuck: what opens fails in time, what is open goes on, and all of it works again', async () => {
  const run = await served();
  own.signal('SIGSTOP');
  expect((await echo(run, 'meanwhile'))?.json).toMatchObject({ ok: true });
  const startMs = performance.now();
  const text = smallPolicyText().replace('[base]', `[${image}]`);
  const opening = await service.ask('POST', '/v1/runs', { policy: { text } });
  expect(expectTyped(opening)).toMatch(/^engine_/);
  expect(performance.now() - startMs).toBeLessThan(60_000);
  own.signal('SIGCONT');
  expect((await echo(run, 'after'))?.json).toMatchObject({ ok: true });
  const other = await openRun();
  expect((await echo(other, 'first'))?.json).toMatchObject({ ok: true });
  for (const id of [run, other]) expect((await service.insist('POST', `/v1/runs/${id}/close`, {})).status).toBe(200);
});

test('an engine that is killed and starts anew: its runs are lost and say so, no command has an exit code for it', async () => {
  const run = await served();
  await service.ask('PUT', `/v1/runs/${run}/calls/long`, { tool: 'exec', script: 'sleep 300', yieldMs: 0 });
  await own.kill();
  await own.startDaemon();
  await own.docker('kill', ...(await own.docker('ps', '-q')).split('\n')).catch(() => undefined);
  await expect
    .poll(async () => (await service.ask('GET', `/v1/runs/${run}/calls/long?waitMs=1000`))?.json['data'], {
      timeout: 60_000,
    })
    .toMatchObject({ state: 'ended', outcome: { kind: 'sandbox_lost' }, exitCode: null });
  expect(expectTyped(await echo(run, 'late'))).toMatch(/^(sandbox_lost|run_not_open)$/);
  await service.insist('POST', `/v1/runs/${run}/close`, {});
  expect(await checkJournal(bench.dataDir.runDir(run).journal)).toMatchObject({ verdict: 'closed', findings: [] });
  const other = await openRun();
  expect((await echo(other, 'first'))?.json).toMatchObject({ ok: true });
});

test('a disk that is full: no call runs without its record, and with room a new run does', async () => {
  const run = await served({ dataDirBytes: 96 * 1024 * 1024 });
  expect((await echo(run, 'before'))?.json).toMatchObject({ ok: true });
  await bench.fillDataDir();
  let refused: Answer | undefined;
  for (let n = 0; n < 60 && refused === undefined; n++) {
    const answer = await echo(run, `full-${n}`);
    if (answer?.status !== 200) refused = answer;
  }
  expect(expectTyped(refused)).toMatch(/^(journal_unavailable|data_dir_unusable|disk_full)$/);
  expect((await echo(run, 'before'))?.json, 'what was answered is still answered').toMatchObject({ ok: true });
  await execa('rm', ['-f', `${bench.dataDir.path}/filler`, `${bench.dataDir.path}/filler.rest`]);
  const other = await openRun();
  expect((await echo(other, 'first'))?.json).toMatchObject({ ok: true });
});

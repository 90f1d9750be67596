import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Runtime } from '../src/engine/engine.ts';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { recover } from '../src/recovery.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { cuttable, ways } from './fixtures/cuttable-engine.ts';
import { Outside } from './fixtures/outside.ts';
import { underEachRuntime } from './security/fixtures/host.ts';
import { compiled } from '../src/program.fixture.ts';

/** What is left of a way out when something of it breaks: nothing, until it is whole again. */
const facts = await (await DockerEngine.connect()).describe();
let outside: Outside;

beforeAll(async () => {
  outside = await Outside.open();
});

afterAll(async () => {
  await outside.close();
});

/** `db.internal` leads to an echo. */
function policyText(runtime: Runtime): string {
  return smallPolicyText(`runtime: ${runtime}\negress:
  use: [db]
  upstreams: [{ id: db, host: db.internal, port: 5432, to: "127.0.0.1:${outside.ports.echo}" }]
`);
}

const echoed = 'exec 3<>/dev/tcp/db.internal/5432 && echo over >&3 && head -1 <&3';
/** Says when it is connected, and how the connection has ended. */
const holding = `
exec 3<>/dev/tcp/db.internal/5432 && echo over >&3 && head -1 <&3
cat <&3; echo "ended with $?"; touch ended`;

async function endsOf(run: Run): Promise<readonly unknown[]> {
  const ends: unknown[] = [];
  for await (const entry of readEntries(run.dir.journal))
    if (entry.type === 'egress.ended') ends.push(entry.data.result);
  return ends;
}

underEachRuntime(facts, (runtime) => {
  test.each(ways.filter((way) => runtime === 'runc' || way === 'attached'))(
    'over the %s stream: one that is cut cuts what is under way, and then it goes on',
    async (way) => {
      const bench = await Bench.make();
      const { engine, cut } = cuttable(bench.engine, way);
      const runner = await Runner.create(engine, bench.dataDir, { network: outside.network() });
      try {
        const run = await runner.open({ policy: parsePolicy(policyText(runtime), 'test policy') });
        await run.call('held', { tool: 'exec', script: holding, cwd: '/tmp', yieldMs: 500 });
        cut();
        const held = await run.poll('held', 10_000);
        expect(held.text).toContain('ended with');
        const again = `until ${echoed}; do sleep 0.1; done`;
        const { text } = await run.call('again', { tool: 'exec', script: again, yieldMs: 10_000 });
        expect(text).toContain('over\nExit code 0.');
        await run.close();
        expect((await endsOf(run))[0]).toBe('cut');
        expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
      } finally {
        await runner.close();
        await bench.close();
      }
    },
  );

  test('a record that cannot be written lets nothing through, and ends what is under way', async () => {
    const bench = await Bench.make({ dataDirBytes: 4 * 1024 * 1024 });
    const runner = await Runner.create(bench.engine, bench.dataDir, { network: outside.network() });
    try {
      const run = await runner.open({ policy: parsePolicy(policyText(runtime), 'test policy') });
      await run.call('held', { tool: 'exec', script: holding, cwd: '/tmp', yieldMs: 500 });
      // The journal's last page has room for some.
      const script = `until [ -e ended ]; do ${echoed}; sleep 0.05; done; ${echoed} && touch passed; touch tried; sleep 60`;
      await run.call('more', { tool: 'exec', script, cwd: '/tmp', yieldMs: 0 });
      await bench.fillDataDir();
      await until(async () => (await run.sandbox.files.stat('/tmp/tried').catch(() => undefined)) !== undefined);
      await expect(run.sandbox.files.stat('/tmp/passed')).rejects.toMatchObject({ code: 'not_found' });
      await expect(run.close()).rejects.toThrow();
    } finally {
      await runner.close();
      await bench.close();
    }
  });

  test('a runner that is killed in the middle of a transfer: nothing more passes, and the record is closed as cut', async () => {
    const bench = await Bench.make();
    const script = `exec 3<>/dev/tcp/db.internal/5432; (cat <&3 >/dev/null &) ; while :; do echo x >&3; sleep 0.01; done`;
    const program = await compiled(new URL('fixtures/dying-run.ts', import.meta.url));
    const argv = [program, bench.dataDir.path, policyText(runtime), '{}', '', script];
    const child = execa(process.execPath, argv, { reject: false, stderr: 'inherit' });
    try {
      await until(() => Promise.resolve(outside.connected === 1));
      child.kill('SIGKILL');
      await child;
      await until(() => Promise.resolve(outside.connected === 0));
      const bytes = outside.echoedBytes;
      const { runs } = await recover(bench.engine, bench.dataDir);
      expect(runs).toMatchObject([{ closedCalls: 1 }]);
      expect(outside.echoedBytes).toBe(bytes);
      const { journal } = bench.dataDir.runDir(runs[0]?.id ?? '');
      expect(await checkJournal(journal)).toMatchObject({ verdict: 'closed', findings: [] });
      const ends = [];
      for await (const entry of readEntries(journal)) if (entry.type === 'egress.ended') ends.push(entry.data);
      expect(ends).toMatchObject([{ result: 'cut', reason: 'the runner that wrote this journal is gone' }]);
      expect(await bench.containers()).toEqual([]);
    } finally {
      child.kill('SIGKILL');
      await bench.close();
    }
  });
});

async function until(holds: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error('it never happened');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

import { describe, expect, it } from 'vitest';
import { RunnerError } from '../errors.ts';
import { diagnose, diagnosisLines } from './doctor.ts';
import type { EngineFacts } from './engine.ts';
import { FakeEngine } from './fake/fake-engine.ts';

describe('a diagnosis', () => {
  it('of an engine that was not found says so, and that nothing can run', async () => {
    const error = new RunnerError('engine_unavailable', 'No container engine answers. Install one.');
    const diagnosis = await diagnose(error, { supervisorPath: '/nowhere/supervisor' });
    expect(diagnosis.usable).toBe(false);
    expect(diagnosis.checks.map((check) => [check.id, check.ok])).toEqual([
      ['engine', 'no'],
      ['supervisor', 'no'],
    ]);
    expect(diagnosisLines(diagnosis).join('\n')).toContain('Install one.');
  });

  it('of an engine that breaks while it is asked is a diagnosis all the same', async () => {
    const diagnosis = await diagnose(new Changed(() => Promise.reject(new Error('disk on fire'))));
    expect(diagnosis).toMatchObject({ usable: false, facts: undefined });
    expect(diagnosis.checks[0]?.found).toContain('disk on fire');
  });

  it.each(['memory', 'swap', 'pids', 'cpu', 'seccomp'] as const)(
    'without %s finds the engine unusable',
    async (what) => {
      const complete = await diagnose(changed(() => all));
      expect(complete.usable).toBe(true);
      const diagnosis = await diagnose(changed(() => ({ ...all, enforces: { ...all.enforces, [what]: false } })));
      expect(diagnosis.usable).toBe(false);
      const check = diagnosis.checks.find(({ id }) => id === what);
      expect(check?.ok).toBe('no');
      expect(check?.remedy).not.toBe('');
    },
  );

  it.each([
    ['absent', [], false, /not a runtime/],
    ['listed with arguments that undo its limits', ['runsc'], false, /--ignore-cgroups/],
  ] as const)('of gVisor %s says what to do', async (_, runtimes, gvisor, found) => {
    const diagnosis = await diagnose(changed(() => ({ ...all, runtimes, enforces: { ...all.enforces, gvisor } })));
    const check = diagnosis.checks.find(({ id }) => id === 'gvisor');
    expect(check).toMatchObject({ ok: 'limited', found: expect.stringMatching(found) as string });
    expect(check?.remedy).not.toBe('');
    expect(diagnosis.usable).toBe(true);
  });

  it('warns of clocks that differ', async () => {
    const diagnosis = await diagnose(changed(() => ({ ...all, clockSkewMs: -60_000 })));
    expect(diagnosis.checks.find(({ id }) => id === 'clock')).toMatchObject({
      ok: 'limited',
      found: 'the engine is 60000 ms behind',
    });
  });
});

class Changed extends FakeEngine {
  readonly #describe: () => Promise<EngineFacts>;
  constructor(facts: () => Promise<EngineFacts>) {
    super();
    this.#describe = facts;
  }
  override async describe(): Promise<EngineFacts> {
    return await this.#describe();
  }
}

function changed(facts: () => EngineFacts): FakeEngine {
  return new Changed(async () => facts());
}

const all: EngineFacts = {
  ...(await new FakeEngine().describe()),
  kind: 'docker',
  cgroupVersion: 2,
  enforces: { memory: true, swap: true, pids: true, cpu: true, seccomp: true, userNamespace: true, gvisor: true },
};

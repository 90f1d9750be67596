import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { DataDir } from '../data-dir/data-dir.ts';
import { newId } from '../ids.ts';
import { promotionFailpoints } from '../failpoint.ts';
import { accepted, candidateOf, TestRepository } from './candidate.fixture.ts';
import { Ledger } from './ledger.ts';
import { promote, type Promoted } from './promote.ts';
import { rollback } from './rollback.ts';
import { compiled } from '../program.fixture.ts';

const base = { 'README.md': 'read me\n', 'src/a.ts': 'a\n' };
const edits = { 'README.md': 'read me, and more\n', 'src/a.ts': null, 'src/b.ts': 'b\n' };
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Promotes, or rolls back, in a process of its own. */
const program = `
  import { accepted, candidateOf } from '${here('./candidate.fixture.ts')}';
  import { DataDir } from '${here('../data-dir/data-dir.ts')}';
  import { promote } from '${here('./promote.ts')}';
  import { rollback } from '${here('./rollback.ts')}';
  const [what, data, repository, manifest, promotion] = process.argv.slice(2);
  const dataDir = await DataDir.open(data);
  const candidate = candidateOf(${JSON.stringify(base)}, ${JSON.stringify(edits)}, JSON.parse(manifest));
  if (what === 'promote') await promote(dataDir, { candidate, repository, by: 'ada', reviews: [accepted(candidate, 'ada')] });
  else await rollback(dataDir, { promotion, reason: 'it broke', by: 'ada' });`;

async function dies(failpoint: string, args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [await compiled(program), ...args], {
    env: { PATH: process.env['PATH'], GLOVEBOX_FAILPOINT: `${failpoint}:kill` },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said += text.toString()));
  expect(await once(child, 'close'), said).toEqual([null, 'SIGKILL']);
  expect(said, 'the failpoint was never reached').toContain(`failpoint ${failpoint}: kill`);
}

/** What the killed one has left, and what the next one makes of it. */
async function survives(name: string, what: 'promote' | 'rollback'): Promise<void> {
  const repository = new TestRepository(base);
  const dataPath = join(repository.home, 'data');
  try {
    const dataDir = await DataDir.open(dataPath);
    const manifest = {
      run: newId(),
      verification: { id: newId(), digest: `sha256:${'1'.repeat(64)}`, verdict: 'passed' },
      base: { digest: `sha256:${'0'.repeat(64)}`, commit: repository.git('rev-parse', 'HEAD') },
    } as const;
    const candidate = candidateOf(base, edits, manifest);
    const again = (): Promise<Promoted> =>
      promote(dataDir, {
        candidate,
        repository: repository.path,
        by: 'ada',
        reviews: [accepted(candidate, 'ada')],
      });
    const first = what === 'rollback' ? await again() : undefined;
    const before = repository.branches();
    await dies(name, [what, dataPath, repository.path, JSON.stringify(manifest), first?.id ?? '']);

    const branch = `glovebox/${manifest.run.slice(0, 10)}`;
    const after = repository.branches();
    const isComplete = name === 'promote.swapped' || name === 'promote.recorded';
    expect(after === before).toBe(!isComplete);
    expect(repository.git('fsck', '--full', '--strict', '--no-dangling')).toBe('');
    const expected = first === undefined ? '1' : '2';
    if (isComplete) expect(repository.git('rev-list', '--count', `main..${branch}`)).toBe(expected);

    const reason = { reason: 'it broke', by: 'ada' };
    const all = await Promise.all(
      Array.from({ length: 3 }, () =>
        first === undefined ? again() : rollback(dataDir, { promotion: first.id, ...reason }),
      ),
    );
    expect(new Set(all.map(({ commit }) => commit)).size).toBe(1);
    expect(repository.git('rev-parse', branch)).toBe(all[0]?.commit);
    if (isComplete) expect(repository.branches()).toBe(after);
    expect(repository.git('rev-list', '--count', `main..${branch}`)).toBe(expected);
    expect(repository.git('diff', '--name-only', 'main', branch)).toBe(
      first === undefined ? 'README.md\nsrc/a.ts\nsrc/b.ts' : '',
    );
    expect(repository.leftovers()).toEqual([]);
    const promotion = await new Ledger(dataDir).get(manifest.run);
    expect(promotion[first === undefined ? 'done' : 'rolledBack']?.commit).toBe(all[0]?.commit);
  } finally {
    repository.remove();
    rmSync(dataPath, { recursive: true, force: true });
  }
}

describe.each(['promote', 'rollback'] as const)('kill -9 in the middle of a %s', (what) => {
  test.concurrent.each(promotionFailpoints)(
    'at %s leaves the repository untouched or complete, and the next one completes it once',
    async (name) => survives(name, what),
    60_000,
  );
});

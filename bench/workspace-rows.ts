import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { newId } from '../src/ids.ts';
import type { Run } from '../src/runner.ts';
import { BaseStore } from '../src/workspace/base/bases.ts';
import { BlobStore } from '../src/workspace/blobs.ts';
import { Scope } from '../src/workspace/scope/scope.ts';
import type { Bench } from './bed.ts';
import { freshDisk } from './fresh-disk.ts';
import { lessIsBetter, median, timed, type Row } from './measure.ts';
import { commitAll, LargeBed, WorkspaceBed } from './workspace-bed.ts';

const few = 500;

/** What a workspace of 50,000 files adds to opening a run: named by its base, and named by its directory. */
export async function open50k({ large }: Bench): Promise<readonly Row[]> {
  const { workspace, place } = await large.get();
  const { runner, policy, dataDir } = place;
  await (await runner.open({ policy, workspace })).close();
  await (await runner.open({ policy })).close();
  const bases = await (await BaseStore.open(dataDir.basesDir)).list();
  const base = bases.find(({ files }) => files === LargeBed.files)?.key ?? '';
  const open = async (request: { base?: string; workspace?: string }): Promise<number> => {
    let run: Run | undefined;
    const ms = await timed(async () => void (run = await runner.open({ policy, ...request })));
    await run?.close();
    return ms;
  };
  const times = { empty: [] as number[], base: [] as number[], directory: [] as number[] };
  for (let n = 0; n < 12; n++) {
    times.empty.push(await open({}));
    times.base.push(await open({ base }));
    if (n % 2 === 0) times.directory.push(await open({ workspace }));
  }
  const empty = median(times.empty);
  const beside = { peer: empty };
  return [
    lessIsBetter('open-50k', 'ms', { ours: median(times.base) - empty, peer: null }, null, { bound: 20 }),
    lessIsBetter('open-50k/whole', 'ms', { ours: median(times.base), ...beside }, 'an empty workspace', {}),
    lessIsBetter('open-50k-dir', 'ms', { ours: median(times.directory), ...beside }, 'an empty workspace', {}),
  ];
}

/** Twenty changes, a renamed directory and one that was deleted and made again among them. */
const edits = `set -e
for n in 0 1 2 3 4 5 6 7 8; do echo changed >> src/p0/d0/f$n.js; echo changed >> src/p0/d5/f$n.js; done
mv src/p0/d1 src/p0/moved
rm -r src/p0/d2; mkdir src/p0/d2; echo new > src/p0/d2/f0.js`;

/** The same changes in a large and in a small workspace, in turn. The first diff of a base also reads its list of files. */
export async function diff20({ large: shared }: Bench): Promise<readonly Row[]> {
  const { workspace, place } = await shared.get();
  const { runner, policy } = place;
  const open: Run[] = [];
  try {
    const opened = async (of: string): Promise<Run> => {
      const run = await runner.open({ policy, workspace: of });
      open.push(run);
      const result = await run.call('edit', { tool: 'exec', script: edits });
      if (!result.ok) throw new Error(result.text);
      return run;
    };
    const [large, small] = [await opened(workspace), await opened(place.files('of-500', few))];
    const first = await timed(() => large.diff());
    const times = { large: [] as number[], small: [] as number[] };
    for (let n = 0; n < 20; n++) {
      times.small.push(await timed(() => small.diff()));
      times.large.push(await timed(() => large.diff()));
    }
    const measured = { ours: median(times.large), peer: median(times.small) };
    return [
      lessIsBetter('diff-20-of-50k', 'ms', measured, 'diff-20-of-500', { bound: 50, ratio: 0.667 }),
      lessIsBetter('diff-20-of-50k/first', 'ms', { ours: first, peer: null }, null, {}),
    ];
  } finally {
    for (const run of open) await run.close();
  }
}

/** A git work tree that nobody has seen before, and once more after 20 files have changed, or 20 others are there. */
export async function import50k({ bed }: Bench): Promise<readonly Row[]> {
  const place = await WorkspaceBed.make(bed);
  const disk = join(place.folder, 'disk');
  const takeAway = await freshDisk(disk);
  try {
    const root = place.files('disk/workspace', LargeBed.files);
    await commitAll(root);
    await sleep(2_100); // what was written this moment is read again by the next import
    const scope = Scope.compile(place.policy.policy.files);
    const blobs = await BlobStore.open(join(disk, 'blobs'));
    const at = (name: string): string => join(disk, name);
    const importInto = async (name: string): Promise<void> => {
      const store = await BaseStore.open(at(name));
      await store.hold(newId(), await store.select(root, scope), scope, blobs);
    };
    const first = { ours: [] as number[], copy: [] as number[], clone: [] as number[] };
    for (let n = 0; n < 2; n++) {
      first.ours.push(await timed(() => importInto(`bases-${n}`)));
      first.copy.push(await timed(() => execa('cp', ['-a', join(root, 'src'), at(`copy-${n}`)])));
      first.clone.push(await timed(() => execa('git', ['clone', '-q', '--local', root, at(`clone-${n}`)])));
    }
    const again = { changed: [] as number[], added: [] as number[], looks: [] as number[] };
    const others = (name: string): Promise<unknown> =>
      Promise.all(
        Array.from({ length: 20 }, (_, n) => appendFile(join(root, 'src/p3', `d${150 + n}`, name), '// changed\n')),
      );
    for (let n = 0; n < 5; n++) {
      await others(`f${n}.js`);
      again.changed.push(await timed(() => importInto('bases-0')));
      again.looks.push(
        await timed(() => execa('find', [root, '-name', '.git', '-prune', '-o', '-newermt', '2100-01-01'])),
      );
    }
    for (let n = 0; n < 3; n++) {
      await others(`new${n}.js`);
      again.added.push(await timed(() => importInto('bases-0')));
    }
    const [ours, changed, looks] = [median(first.ours), median(again.changed), median(again.looks)];
    const soon = { bound: 500, ratio: 8 };
    return [
      lessIsBetter('import-50k', 'ms', { ours, peer: median(first.copy) }, 'cp -a', {}),
      lessIsBetter('import-50k/git', 'ms', { ours, peer: median(first.clone) }, 'git clone --local', {}),
      lessIsBetter('import-50k/20-changed', 'ms', { ours: changed, peer: ours }, 'import-50k', soon),
      lessIsBetter('import-50k/look', 'ms', { ours: changed, peer: looks }, 'find: one look at each file', {}),
      lessIsBetter('import-50k/20-added', 'ms', { ours: median(again.added), peer: ours }, 'import-50k', {}),
    ];
  } finally {
    await takeAway();
    await place.close();
  }
}

import { extname } from 'node:path';
import type { Subject } from '../subject.ts';
import type { CommandJudged } from './command.ts';
import { textOf } from './contents.ts';
import { builtin, type Judged } from './gate-result.ts';
import { countMarkers } from './test-markers.ts';

/** Whether the tests that were there still are, and still check what they did. */
export async function testsKeptGate(subject: Subject, commands: readonly CommandJudged[]): Promise<Judged> {
  const found = [...gone(subject), ...(await weakened(subject)), ...fewer(commands)];
  if (found.length === 0) return builtin('tests_kept', 'passed', 'no test is gone, switched off or weaker');
  return builtin('tests_kept', 'needs_review', 'fewer things are checked than before', found, {
    class: 'constraint_violation',
    attribution: 'agent',
  });
}

/** Files of tests that are no longer there; as a test of another name, with the same ending and content, they are. */
function gone({ snapshot, classified }: Subject): readonly string[] {
  const { base, changeSet } = snapshot;
  const added = new Set(
    classified.flatMap(({ path, categories }) => {
      const change = changeSet.changes.get(path);
      return categories.includes('test') && change?.kind === 'file' ? [`${extname(path)} ${change.digest}`] : [];
    }),
  );
  return classified.flatMap(({ path, status, categories }) => {
    const before = base.tree.get(path);
    if (!categories.includes('test') || before === undefined || before.kind === 'directory') return [];
    if (status === 'type_changed') return [`${path}: it is no longer a file`];
    const isKept = before.kind === 'file' && added.has(`${extname(path)} ${before.digest}`);
    return status === 'deleted' && !isKept ? [`${path}: removed`] : [];
  });
}

/** Marks that switch a test off, or all others; cases and assertions that are fewer than they were. */
async function weakened({ snapshot, classified, blobs }: Subject): Promise<readonly string[]> {
  const { base, changeSet } = snapshot;
  const found: string[] = [];
  for (const { path, status, categories } of classified) {
    if (status !== 'modified' || !categories.includes('test')) continue;
    const before = await textOf(blobs, base.tree.get(path));
    const after = await textOf(blobs, changeSet.changes.get(path));
    if (before === undefined || after === undefined) {
      found.push(`${path}: too long to be compared`);
      continue;
    }
    const [was, is] = [countMarkers(before), countMarkers(after)];
    if (is.off > was.off) found.push(`${path}: ${is.off - was.off} more marks that switch tests off`);
    if (is.cases < was.cases) found.push(`${path}: ${was.cases - is.cases} fewer test cases`);
    if (is.assertions < was.assertions) found.push(`${path}: ${was.assertions - is.assertions} fewer assertions`);
  }
  return found;
}

/** As the reports tell it. */
function fewer(commands: readonly CommandJudged[]): readonly string[] {
  return commands.flatMap(({ gate, said }) => {
    const [ours, theirs] = [said.get('candidate')?.tests, said.get('base')?.tests];
    if (ours === undefined || theirs === undefined) return [];
    const [now, before] = [ours, theirs].map(({ passed, failed, skipped }) => ({
      all: passed + failed + skipped,
      skipped,
    }));
    if (now === undefined || before === undefined) return [];
    return [
      ...(now.all < before.all ? [`gate ${gate.id}: ${now.all} tests, and ${before.all} on the base`] : []),
      ...(now.skipped > before.skipped
        ? [`gate ${gate.id}: ${now.skipped} tests are skipped, and ${before.skipped} on the base`]
        : []),
    ];
  });
}

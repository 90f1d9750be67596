import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { RunnerError } from '../errors.ts';
import { readEntries } from '../journal/read.ts';
import type { RiskLevel } from '../policy/language/fields.ts';
import { standardVerify, type EffectiveVerify } from '../policy/policy.ts';
import { findRunSnapshot, type RunSnapshot } from '../runner.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { classifyChanges, type ClassifiedChange } from '../workspace/changes/classify.ts';
import { Checks } from './checks.ts';

/** What is verified: the candidate of a closed run, compared with its journal, and the rules of the policy it ran under. */
export interface Subject {
  readonly dir: RunDir;
  readonly snapshot: RunSnapshot;
  readonly blobs: BlobStore;
  readonly rules: EffectiveVerify;
  /** Made anew from the change set: what lies in the run's directory beside it is not believed. */
  readonly classified: readonly ClassifiedChange[];
  readonly checks: Checks;
  /** At the end of the run. */
  readonly risk: RiskLevel;
  /** How its journal says that it ended. */
  readonly outcome: string;
  /** What the export refused or noted, by kind, as the journal counts it. */
  readonly findings: Readonly<Record<string, number>>;
}

/** What the changes are laid over instead of what the run began with; its contents are put into the store. */
export type OtherBase = (snapshot: RunSnapshot, blobs: BlobStore) => Promise<RunSnapshot['base']>;

/** Throws what `findRunSnapshot` throws, and `invalid_request` of a run that was itself made to verify another one. */
export async function findSubject(dataDir: DataDir, idOrPrefix: string, onto?: OtherBase): Promise<Subject> {
  const found = await findRunSnapshot(dataDir, idOrPrefix);
  const dir = dataDir.runDir(found.run);
  const blobs = await BlobStore.open(dataDir.blobsDir);
  const snapshot = onto === undefined ? found : { ...found, base: await onto(found, blobs) };
  const { policy } = snapshot.policy;
  const story = await readStory(dir, policy.risk);
  const rules = policy.verify ?? standardVerify;
  const classified = await classifyChanges(snapshot.base.tree, snapshot.changeSet, blobs);
  const inputs = rules.gates.flatMap((gate) => gate.inputs);
  const reports = rules.gates.flatMap(({ report }) => (report?.path === undefined ? [] : [report.path]));
  const checks = Checks.of(snapshot, classified, inputs, reports);
  return { dir, snapshot, blobs, rules, classified, checks, ...story };
}

async function readStory(dir: RunDir, opensAt: RiskLevel): Promise<Pick<Subject, 'risk' | 'outcome' | 'findings'>> {
  const story = { risk: opensAt, outcome: 'open', findings: {} as Readonly<Record<string, number>> };
  for await (const entry of readEntries(dir.journal)) {
    if (entry.type === 'run.opened' && entry.data.verifies !== undefined) {
      const { run, gate } = entry.data.verifies;
      const message = `run ${dir.id} was made to verify run ${run} (gate ${gate}); it proposes nothing itself. Verify run ${run}`;
      throw new RunnerError('invalid_request', message);
    }
    if (entry.type === 'risk.raised') story.risk = entry.data.to as RiskLevel;
    if (entry.type === 'workspace.collected') story.findings = entry.data.findings;
    if (entry.type === 'run.closed') story.outcome = entry.data.outcome;
  }
  return story;
}

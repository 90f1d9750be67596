import { canonicalJson, digestOf } from '../digest.ts';
import { riskLevels, type RiskLevel } from '../policy/language/fields.ts';
import { encodeReplay } from '../replay/replay-record.ts';
import { digestOfVerification } from '../verify/verification.ts';
import type { Change, Node } from '../workspace/change-set.ts';
import { statusOf } from '../workspace/changes/classify.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import type { BundleFiles, Facts } from './facts.ts';
import type { Manifest, ManifestChange, ManifestNode } from './manifest.ts';
import { memberNames } from './members.ts';

/**
 * The manifest that these files have. `categoriesOf` says what is known of a path besides what its diff says: whoever exports
 * looks at the contents once more, whoever checks takes what was signed.
 */
export function describe(
  facts: Facts,
  { members }: BundleFiles,
  categoriesOf: (path: string) => readonly string[],
): Manifest {
  const { story, changeSet, verification, replay } = facts;
  const { opened, started } = story;
  const { commit, below } = started.workspace;
  const environment = members.get(memberNames.environment)?.digest;
  return {
    v: 1,
    run: story.run,
    policy: opened.policy.digest,
    candidate: digestOfChangeSet(changeSet),
    base: {
      digest: started.workspace.digest,
      ...(commit === undefined ? {} : { commit }),
      ...(below === undefined ? {} : { below }),
    },
    image: { reference: opened.image.reference, id: opened.image.id },
    ...(environment === undefined ? {} : { environment }),
    ...(opened.intent === undefined ? {} : { intent: opened.intent }),
    risk: riskOf(facts),
    ...(verification === undefined
      ? {}
      : {
          verification: {
            id: verification.id,
            digest: digestOfVerification(verification),
            verdict: verification.verdict,
          },
        }),
    ...(replay === undefined ? {} : { replay: { digest: digestOf(encodeReplay(replay)), verdict: replay.verdict } }),
    journal: { entries: story.entries, head: story.head },
    changes: changesOf(facts, categoriesOf),
    members: [...members.values()],
  };
}

/** `intent.json`: what was asked for, as the journal has it. */
export function intentText({ opened }: Facts['story']): string {
  return canonicalJson({ intent: opened.intent, request: opened.request });
}

function riskOf({ policy, story, verification }: Facts): RiskLevel {
  const levels = [policy.policy.risk, ...story.raised, verification?.risk.to ?? 'low'];
  return riskLevels[Math.max(...levels.map((level) => riskLevels.indexOf(level)))] ?? 'critical';
}

function changesOf(facts: Facts, categoriesOf: (path: string) => readonly string[]): readonly ManifestChange[] {
  const { base, changeSet, diff } = facts;
  const told = new Map(diff.changes.map((change) => [change.path, change.categories]));
  const found = new Map<string, string[]>();
  for (const { path, kind } of diff.findings) found.set(path, [...(found.get(path) ?? []), kind]);
  return [...changeSet.changes].map(([path, change]) => {
    const [before, after] = [nodeOf(base.get(path)), nodeOf(change)];
    const categories = new Set([...(told.get(path) ?? []), ...categoriesOf(path)]);
    return {
      path,
      status: statusOf(change, base.get(path)),
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
      categories: [...categories].sort(),
      flags: [...new Set([...flagsOf(before, after), ...(found.get(path) ?? [])])].sort(),
    };
  });
}

function flagsOf(before: ManifestNode | undefined, after: ManifestNode | undefined): readonly string[] {
  const wasProgram = before?.kind === 'file' && before.mode === 0o755;
  const isProgram = after?.kind === 'file' && after.mode === 0o755;
  return [...(isProgram && !wasProgram ? ['becomes_executable'] : []), ...(after?.kind === 'symlink' ? ['link'] : [])];
}

function nodeOf(node: Node | Change | undefined): ManifestNode | undefined {
  if (node === undefined || node.kind === 'deleted') return undefined;
  if (node.kind !== 'file') return node;
  const { mode, digest, sizeBytes } = node;
  return { kind: 'file', mode, digest, bytes: sizeBytes };
}

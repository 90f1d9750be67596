import { canonicalJson, type Digest } from '../digest.ts';
import type { Verification } from '../verify/verification.ts';
import type { Facts } from './facts.ts';
import type { Manifest } from './manifest.ts';
import { memberNames } from './members.ts';

/**
 * What the signatures are under: statements of in-toto, Statement v1, whose subjects are the manifest and what of it is put to
 * use. They say nothing that the files of the bundle do not: whoever checks makes them anew and compares.
 */
export const statementType = 'https://in-toto.io/Statement/v1';

/** SLSA provenance v1: with what the run was asked for, under which policy, on what, and by whom it was carried out. */
export function provenanceText(manifest: Manifest, digest: Digest, { story }: Facts): string {
  const { opened, openedAt, closedAt, started } = story;
  return canonicalJson({
    _type: statementType,
    subject: subjectsOf(manifest, digest),
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'urn:glovebox:run:v1',
        externalParameters: {
          intent: opened.intent,
          request: opened.request,
          policy: { name: opened.policy.name, digest: shaOf(manifest.policy) },
          base: { digest: shaOf(manifest.base.digest), commit: manifest.base.commit, below: manifest.base.below },
        },
        internalParameters: {
          engine: opened.engine,
          limits: opened.limits,
          versions: opened.versions,
          workspace: { files: started.workspace.files, bytes: started.workspace.bytes },
        },
        resolvedDependencies: [
          { name: manifest.image.reference, digest: shaOf(manifest.image.id) },
          ...(manifest.base.commit === undefined
            ? []
            : [{ name: 'base commit', digest: { gitCommit: manifest.base.commit } }]),
          ...described(manifest, [memberNames.base, memberNames.policy, memberNames.environment]),
        ],
      },
      runDetails: {
        builder: { id: 'urn:glovebox:runner:v1' },
        metadata: { invocationId: manifest.run, startedOn: openedAt, finishedOn: closedAt },
        byproducts: described(manifest, [memberNames.journal, memberNames.verification]),
      },
    },
  });
}

/** Test result v0.1: what the gates found; a gate is a test here. */
export function testResultText(manifest: Manifest, digest: Digest, verification: Verification): string {
  const gates = verification.gates.filter(({ required }) => required);
  const named = (...verdicts: Verification['verdict'][]): readonly string[] =>
    gates.filter(({ verdict }) => verdicts.includes(verdict)).map(({ id }) => id);
  return canonicalJson({
    _type: statementType,
    subject: subjectsOf(manifest, digest),
    predicateType: 'https://in-toto.io/attestation/test-result/v0.1',
    predicate: {
      result: results[verification.verdict],
      configuration: described(manifest, [memberNames.policy, memberNames.verification]),
      passedTests: named('passed'),
      warnedTests: named('needs_review'),
      failedTests: named('failed', 'broken'),
    },
  });
}

const results = { passed: 'PASSED', needs_review: 'WARNED', failed: 'FAILED', broken: 'FAILED' } as const;

function subjectsOf(manifest: Manifest, digest: Digest): readonly object[] {
  return [
    { name: memberNames.manifest, digest: shaOf(digest) },
    ...described(manifest, [memberNames.changeSet, memberNames.patch]),
  ];
}

/** Those of these files that the bundle has. */
function described({ members }: Manifest, names: readonly string[]): readonly object[] {
  return names.flatMap((name) => {
    const member = members.find(({ path }) => path === name);
    return member === undefined ? [] : [{ name, digest: shaOf(member.digest) }];
  });
}

function shaOf(digest: Digest): { readonly sha256: string } {
  return { sha256: digest.slice('sha256:'.length) };
}

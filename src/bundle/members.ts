import type { Digest } from '../digest.ts';

/** What the files of a bundle are called. Two say who vouches for what; the manifest names all others. */
export const memberNames = {
  manifest: 'manifest.json',
  provenance: 'provenance.dsse.json',
  testResult: 'test-result.dsse.json',
  approvals: 'approvals.json',
  base: 'base.json',
  changeSet: 'change-set.json',
  patch: 'changes.patch',
  diff: 'diff.json',
  environment: 'environment.json',
  intent: 'intent.json',
  journal: 'journal.ndjson',
  policy: 'policy.json',
  replay: 'replay.json',
  verification: 'verification.json',
} as const;

/** A new content of the change set. */
export function contentName(digest: Digest): string {
  return `contents/${digest.slice('sha256:'.length)}`;
}

/** What a command has printed. */
export function outputName(digest: Digest): string {
  return `outputs/${digest.slice('sha256:'.length)}`;
}

/** What the environment of the run was, or a section of it that is kept apart: its digest is that of its text. */
export function fingerprintName(digest: Digest): string {
  return `fingerprints/${digest.slice('sha256:'.length)}`;
}

/** What an agent said that it believed. */
export function contextName(digest: Digest): string {
  return `context/${digest.slice('sha256:'.length)}`;
}

/** The journal of a run that the verification has opened. */
export function verificationJournalName(run: string): string {
  return `verification/${run}.ndjson`;
}

const fixed: ReadonlySet<string> = new Set(Object.values(memberNames));

export function isMemberName(name: string): boolean {
  return (
    fixed.has(name) ||
    /^(?:(?:contents|context|fingerprints|outputs)\/[0-9a-f]{64}|verification\/[0-9a-z]{26}\.ndjson)$/.test(name)
  );
}

/** The digest that a name states, of those that do. */
export function digestInName(name: string): Digest | undefined {
  const hex = /^(?:contents|context|fingerprints|outputs)\/([0-9a-f]{64})$/.exec(name)?.[1];
  return hex === undefined ? undefined : `sha256:${hex}`;
}

/** More than a workspace and the calls of a run can have. */
export const membersMax = 600_000;
/** Of a file that is read whole: a text of a tree or a change set of as many paths as a workspace may have. */
export const textBytesMax = 256 * 1024 ** 2;
/** Of a content or a patch: no workspace has more. */
export const contentBytesMax = 2 * 1024 ** 3;

/** Exactly these bytes: one that is no UTF-8 would be read as another text than it is. */
export function utf8Of(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

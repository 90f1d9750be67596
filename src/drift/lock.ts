import { z } from 'zod';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { fingerprintOf, Section, sectionNames, type Fingerprint, type SectionName } from './fingerprint.ts';

/**
 * The environment that a repository expects: `glovebox.lock` at its top, made by a run that was content with it. It is read from
 * what a run begins with, never from what somebody has changed in it.
 */
export const lockName = 'glovebox.lock';
export const lockBytesMax = 4_194_304;

/** What a lock can speak of: neither the machine, nor the moment, nor the files among which it lies itself. */
const lockable = [
  'image',
  'packages',
  'system_files',
  'tools',
  'users',
  'env',
  'locale',
  'time_zone',
  'runtime',
  'limits',
  'egress',
  'policy',
  'lockfiles',
] as const satisfies readonly SectionName[];
export type LockedSection = (typeof lockable)[number];
export const lockedSections: readonly LockedSection[] = lockable;

/** What two runs have in common whose tasks are others: policy, limits and rules of egress may differ by class. */
export const usuallyLocked: readonly LockedSection[] = lockable.filter(
  (name) => !['limits', 'egress', 'policy'].includes(name),
);

const EnvironmentLockFile = z.strictObject({
  v: z.literal(1),
  sections: z.partialRecord(z.enum(lockable), Section),
});
export type DriftLock = Readonly<z.infer<typeof EnvironmentLockFile>>;

export function lockOf({ sections }: Pick<Fingerprint, 'sections'>, names = usuallyLocked): DriftLock {
  const chosen = names.flatMap((name) => (sections[name] === undefined ? [] : [[name, sections[name]] as const]));
  return { v: 1, sections: Object.fromEntries(chosen) };
}

/** Its one text: sorted, an entry a line, so that a change of it reads well. */
export function formatLock(lock: DriftLock): string {
  return `${JSON.stringify(JSON.parse(canonicalJson(lock)), undefined, 1)}\n`;
}

export interface ParsedLock {
  readonly lock: DriftLock;
  /** Of the text. */
  readonly digest: Digest;
}

/** Throws `import_refused`: what is expected cannot be guessed. */
export function parseLock(text: string): ParsedLock {
  try {
    return { lock: EnvironmentLockFile.parse(JSON.parse(text)), digest: digestOf(text) };
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    const message = `${lockName}: it does not say which environment is expected (${why.slice(0, 300)}); write it again: glovebox drift --write-lock RUN`;
    throw new RunnerError('import_refused', message, { cause: error });
  }
}

/** What it speaks of, as something to compare with: the same sections of what was found. */
export function againstLock(
  { sections }: DriftLock,
  found: Pick<Fingerprint, 'sections'>,
): { readonly expected: Pick<Fingerprint, 'sections'>; readonly found: Pick<Fingerprint, 'sections'> } {
  const names = sectionNames.filter((name) => Object.hasOwn(sections, name));
  const same = names
    .map((name) => [name, found.sections[name]] as const)
    .filter(([, section]) => section !== undefined);
  return { expected: { sections }, found: fingerprintOf('sandbox', new Date(0), Object.fromEntries(same)) };
}

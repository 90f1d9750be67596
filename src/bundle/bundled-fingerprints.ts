import type { Digest } from '../digest.ts';
import { apartNames, keptDigests, parseKept, parseSection, type SectionName } from '../drift/fingerprint.ts';
import { messageOf } from '../errors.ts';
import { canonicalJson } from '../digest.ts';
import type { BundleFiles, Facts } from './facts.ts';
import { fingerprintName, memberNames } from './members.ts';
import { problem, type Problem } from './problem.ts';

/** What a bundle is asked of a fingerprint. All that is in them would be as much memory as somebody wants to have used up. */
export interface BundledFingerprint {
  readonly digest: Digest;
  /** Of each section. */
  readonly sections: Readonly<Partial<Record<SectionName, Digest>>>;
}

/** More than a document, or a section that stands beside it, ever is. */
const fingerprintBytesMax = 16 * 1024 * 1024;

/** What the environment was, by the document that the journal names; of those that are there. */
export async function readFingerprints(
  { fingerprints }: Facts['story'],
  files: BundleFiles,
  problems: Problem[],
): Promise<ReadonlyMap<Digest, BundledFingerprint>> {
  const found = new Map<Digest, BundledFingerprint>();
  const apart = new Set<Digest>();
  const read = async <T>(of: Digest, parse: (text: string) => T): Promise<T | undefined> => {
    const name = fingerprintName(of);
    try {
      const bytes = files.members.get(name)?.bytes ?? 0;
      if (bytes > fingerprintBytesMax) throw new Error(`it has ${bytes} bytes; ${fingerprintBytesMax} are possible`);
      return parse(await files.text(name));
    } catch (error) {
      problems.push(problem(name, '', messageOf(error)));
      return undefined;
    }
  };
  for (const document of fingerprints.keys()) {
    if (!files.members.has(fingerprintName(document))) continue;
    const kept = await read(document, (text) => {
      const { digest, sections } = parseKept(text);
      return { digest, sections: keptDigests(sections) };
    });
    if (kept === undefined) continue;
    found.set(document, kept);
    for (const name of apartNames) if (kept.sections[name] !== undefined) apart.add(kept.sections[name]);
  }
  // Many of them name the same one: it is looked at once.
  for (const section of apart) await read(section, (text) => void parseSection(text, section));
  return found;
}

/** Each is what the journal says, and nothing lies beside them that none of them names. */
export function fingerprintProblems({ story, fingerprints }: Facts, { members }: BundleFiles): readonly Problem[] {
  const problems: Problem[] = [];
  const named = new Set<string>();
  for (const [document, found] of fingerprints) {
    const told = story.fingerprints.get(document);
    const is = canonicalJson(found);
    const says = canonicalJson({ digest: told?.digest, sections: told?.sections });
    if (is !== says)
      problems.push(problem(fingerprintName(document), 'digest', `it is not what ${memberNames.journal} says`));
    named.add(fingerprintName(document));
    for (const name of apartNames) {
      const section = found.sections[name];
      if (section !== undefined) named.add(fingerprintName(section));
    }
  }
  for (const path of members.keys())
    if (path.startsWith('fingerprints/') && !named.has(path))
      problems.push(problem(path, '', 'nothing in the bundle names it'));
  return problems;
}

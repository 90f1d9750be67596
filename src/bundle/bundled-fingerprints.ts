import type { Digest } from '../digest.ts';
import { apartNames, sectionDigests, type Fingerprint } from '../drift/fingerprint.ts';
import { parseDocument } from '../drift/fingerprint-files.ts';
import { messageOf } from '../errors.ts';
import { canonicalJson } from '../digest.ts';
import type { BundleFiles, Facts } from './facts.ts';
import { fingerprintName, memberNames } from './members.ts';
import { problem, type Problem } from './problem.ts';

/** What the environment was, by the document that the journal names; of those that are there. */
export async function readFingerprints(
  { fingerprints }: Facts['story'],
  files: BundleFiles,
  problems: Problem[],
): Promise<ReadonlyMap<Digest, Fingerprint>> {
  const found = new Map<Digest, Fingerprint>();
  for (const document of fingerprints.keys()) {
    const name = fingerprintName(document);
    if (!files.members.has(name)) continue;
    try {
      const apart = (section: Digest): Promise<string> => files.text(fingerprintName(section));
      found.set(document, await parseDocument(await files.text(name), apart));
    } catch (error) {
      problems.push(problem(name, '', messageOf(error)));
    }
  }
  return found;
}

/** Each is what the journal says, and nothing lies beside them that none of them names. */
export function fingerprintProblems({ story, fingerprints }: Facts, { members }: BundleFiles): readonly Problem[] {
  const problems: Problem[] = [];
  const named = new Set<string>();
  for (const [document, found] of fingerprints) {
    const told = story.fingerprints.get(document);
    const is = canonicalJson({ digest: found.digest, sections: sectionDigests(found.sections) });
    const says = canonicalJson({ digest: told?.digest, sections: told?.sections });
    if (is !== says)
      problems.push(problem(fingerprintName(document), 'digest', `it is not what ${memberNames.journal} says`));
    named.add(fingerprintName(document));
    for (const name of apartNames) {
      const section = found.sections[name];
      if (section !== undefined) named.add(fingerprintName(section.digest));
    }
  }
  for (const path of members.keys())
    if (path.startsWith('fingerprints/') && !named.has(path))
      problems.push(problem(path, '', 'nothing in the bundle names it'));
  return problems;
}

import { link, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { RunDir } from '../data-dir/data-dir.ts';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { documentDigest, Fingerprint, type Section, type SectionName } from './fingerprint.ts';

/**
 * Fingerprints of a run, `fingerprints/<document>.json` in its directory. Sections that an image decides are large, and the same for
 * each run on it: they stand beside, once a digest, as names of one file for all runs of a data directory.
 */
const apartNames: readonly SectionName[] = ['packages', 'system_files'];

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const Apart = z.strictObject({ apart: digest });

/** Whole or not at all for a reader; kept as journals are: handed to the kernel. Throws what the disk says. */
export async function writeFingerprint(
  dir: RunDir,
  dataDir: string,
  fingerprint: Fingerprint,
): Promise<{ readonly document: Digest }> {
  const document = documentDigest(fingerprint);
  await mkdir(dir.fingerprintsDir, { recursive: true, mode: 0o700 });
  const shown: Record<string, unknown> = { ...fingerprint.sections };
  for (const name of apartNames) {
    const section = fingerprint.sections[name];
    if (section === undefined) continue;
    shown[name] = { apart: section.digest };
    await keepApart(dir, join(dataDir, 'fingerprints', 'sections'), section);
  }
  await writeOnce(fileOf(dir, document), canonicalJson({ ...fingerprint, sections: shown }));
  return { document };
}

/** Throws `run_not_found` where there is none, and `journal_broken` where it is not what was written there. */
export async function readFingerprint(dir: RunDir, document: Digest): Promise<Fingerprint> {
  const text = await readFile(fileOf(dir, document), 'utf8').catch((cause: unknown) => {
    const message = `run ${dir.id} has no fingerprint ${document}: ${messageOf(cause)}; \`glovebox fingerprint ${dir.id}\` takes one of an open run`;
    throw new RunnerError('run_not_found', message, { cause });
  });
  return parseFingerprintFile(text, document, (section) => readFile(fileOf(dir, section), 'utf8'));
}

/** What `writeFingerprint` has written, wherever its files lie now. Throws `journal_broken`. */
async function parseFingerprintFile(
  text: string,
  document: Digest,
  apart: (section: Digest) => Promise<string>,
): Promise<Fingerprint> {
  try {
    const kept = HeadOfFile.parse(JSON.parse(text));
    const sections: Record<string, unknown> = {};
    for (const [name, section] of Object.entries(kept.sections)) {
      const found = Apart.safeParse(section);
      sections[name] = found.success
        ? { ...Content.parse(JSON.parse(await apart(found.data.apart))), digest: found.data.apart }
        : section;
    }
    const fingerprint = Fingerprint.parse({ ...kept, sections });
    if (documentDigest(fingerprint) !== document) throw new Error(`it is ${documentDigest(fingerprint)}`);
    return fingerprint;
  } catch (cause) {
    const message = `fingerprint ${document} is not what was written there: ${messageOf(cause).slice(0, 300)}; take another one`;
    throw new RunnerError('journal_broken', message, { cause });
  }
}

const HeadOfFile = z.looseObject({ sections: z.record(z.string().max(64), z.unknown()) });
const Content = z.looseObject({ evidence: z.record(z.string(), z.string()) });

export function fileOf(dir: Pick<RunDir, 'fingerprintsDir'>, of: Digest): string {
  return join(dir.fingerprintsDir, `${of.slice('sha256:'.length)}.json`);
}

async function keepApart(dir: RunDir, shared: string, { digest: name, ...content }: Section): Promise<void> {
  const [common, own] = [join(shared, `${name.slice('sha256:'.length)}.json`), fileOf(dir, name)];
  if (await linked(common, own)) return;
  const text = canonicalJson(content);
  if (digestOf(text) !== name) throw new Error(`a section with the digest of another one: ${name}`);
  await mkdir(shared, { recursive: true, mode: 0o700 });
  await writeOnce(common, text);
  if (!(await linked(common, own))) await writeOnce(own, text);
}

async function linked(from: string, to: string): Promise<boolean> {
  return link(from, to).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code === 'EEXIST',
  );
}

async function writeOnce(file: string, text: string): Promise<void> {
  const partial = `${file}.${newId()}.new`;
  await writeFile(partial, text, { mode: 0o600, flag: 'wx' });
  await rename(partial, file);
}

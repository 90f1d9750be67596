import { link, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunDir } from '../data-dir/data-dir.ts';
import { digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import {
  apartNames,
  documentDigest,
  encodeDocument,
  encodeSection,
  parseKept,
  parseSection,
  type Fingerprint,
  type Section,
} from './fingerprint.ts';

/**
 * Fingerprints of a run: `fingerprints/<sha256>.json` in its directory, each text under its own digest. What an image decides is
 * one file under many names, for all runs of a data directory. Whole or not at all for a reader; kept as journals are: handed to
 * the kernel. Throws what the disk says.
 */
export async function writeFingerprint(
  dir: RunDir,
  dataDir: string,
  fingerprint: Fingerprint,
): Promise<{ readonly document: Digest }> {
  const document = documentDigest(fingerprint);
  await mkdir(dir.fingerprintsDir, { recursive: true, mode: 0o700 });
  for (const name of apartNames) {
    const section = fingerprint.sections[name];
    if (section !== undefined) await keepApart(dir, join(dataDir, 'fingerprints', 'sections'), section);
  }
  await writeOnce(fileOf(dir, document), encodeDocument(fingerprint));
  return { document };
}

/** Throws `not_found` where there is none, and `journal_broken` where it is not what was written there. */
export async function readFingerprint(dir: RunDir, document: Digest): Promise<Fingerprint> {
  const text = await readFile(fileOf(dir, document), 'utf8').catch((cause: unknown) => {
    const message = `run ${dir.id} has no fingerprint ${document} any more; take another one, or restore it from a backup`;
    throw new RunnerError('not_found', message, { cause });
  });
  try {
    if (digestOf(text) !== document) throw new Error(`it is ${digestOf(text)}`);
    return await parseDocument(text, (section) => readFile(fileOf(dir, section), 'utf8'));
  } catch (cause) {
    const message = `fingerprint ${document} of run ${dir.id} is not what was written there: ${messageOf(cause).slice(0, 300)}`;
    throw new RunnerError('journal_broken', `${message}; take another one, or restore it from a backup`, { cause });
  }
}

/** Of `encodeDocument`, wherever that is kept; `apart` reads what stands beside it. Throws what is wrong with it. */
async function parseDocument(text: string, apart: (section: Digest) => Promise<string>): Promise<Fingerprint> {
  const document = parseKept(text);
  const sections: Record<string, Section> = {};
  for (const [name, section] of Object.entries(document.sections))
    sections[name] = 'apart' in section ? parseSection(await apart(section.apart), section.apart) : section;
  return { ...document, sections };
}

/** Of a document, and of a section that is kept apart. */
export function fileOf(dir: Pick<RunDir, 'fingerprintsDir'>, of: Digest): string {
  return join(dir.fingerprintsDir, `${of.slice('sha256:'.length)}.json`);
}

async function keepApart(dir: RunDir, shared: string, section: Section): Promise<void> {
  const own = fileOf(dir, section.digest);
  const common = fileOf({ fingerprintsDir: shared }, section.digest);
  if (await linked(common, own)) return;
  await mkdir(shared, { recursive: true, mode: 0o700 });
  await writeOnce(common, encodeSection(section));
  if (!(await linked(common, own))) await writeOnce(own, encodeSection(section));
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

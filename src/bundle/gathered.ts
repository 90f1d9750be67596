import { createReadStream } from 'node:fs';
import { access, open, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { ApprovalFiles } from '../approvals/approval-files.ts';
import { findContext } from '../context/context-files.ts';
import { encodeContext } from '../context/context-snapshot.ts';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { apartNames } from '../drift/fingerprint.ts';
import { fileOf } from '../drift/fingerprint-files.ts';
import { listEnvironmentLocks } from '../environment/lock.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { findLock } from '../images/lock.ts';
import { imageNames, shippedImagesDir } from '../images/recipe.ts';
import { findReplay } from '../replay/replay-files.ts';
import { encodeReplay } from '../replay/replay-record.ts';
import { findOutputs } from '../sandbox/find-output.ts';
import type { OutputLog } from '../sandbox/output-log.ts';
import { encodeVerification } from '../verify/verification.ts';
import { findVerification } from '../verify/verification-files.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import { parseChangeSet } from '../workspace/manifest.ts';
import type { FileToWrite } from './archive.ts';
import { intentText } from './described.ts';
import type { BundledApproval, BundledEnvironment } from './facts.ts';
import {
  contentName,
  contextName,
  fingerprintName,
  memberNames,
  outputName,
  verificationJournalName,
} from './members.ts';
import { readStory, type Story } from './story.ts';

export interface GatheredFile extends FileToWrite {
  /** Of one that lies on disk as it is. */
  readonly onDisk?: string;
}

/** What a closed run has left on this machine, as files of a bundle, by name. Nothing is held against anything yet. */
export async function gather(dataDir: DataDir, dir: RunDir, blobs: BlobStore): Promise<readonly GatheredFile[]> {
  const story = await storyOf(dir);
  const files: GatheredFile[] = [
    ...(await kept(dir)),
    await onDisk(memberNames.journal, dir.journal),
    inMemory(memberNames.intent, intentText(story)),
    inMemory(memberNames.approvals, canonicalJson(await approvalsOf(dir, story))),
    ...(await environmentOf(dataDir, story)),
    ...(await verificationOf(dataDir, dir)),
    ...(await replayOf(dir)),
    ...(await contentsOf(dir, blobs)),
    ...(await fingerprintsOf(dir, story)),
    ...(await outputsOf(dir, story)),
    ...(await contextsOf(dir, story)),
  ];
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Throws `run_not_open` for one that is not closed, `journal_broken` for one whose journal is not what was written. */
async function storyOf(dir: RunDir): Promise<Story> {
  const file = await open(dir.journal, 'r').catch((cause: unknown) => {
    throw new RunnerError('run_not_found', `run ${dir.id} has no journal: ${messageOf(cause)}`, { cause });
  });
  try {
    const story = await readStory(file, dir.journal);
    if (!('problem' in story)) return story;
    const next = {
      broken: `glovebox check ${dir.id} names what is wrong`,
      open: `glovebox close ${dir.id} ends it`,
      nothing: 'do its work in another run',
    }[story.why];
    throw new RunnerError(
      story.why === 'broken' ? 'journal_broken' : 'run_not_open',
      `run ${dir.id} cannot be exported: ${story.problem}; ${next}`,
    );
  } finally {
    await file.close();
  }
}

/** As they lie in the run's directory. */
async function kept(dir: RunDir): Promise<readonly GatheredFile[]> {
  const names: readonly (readonly [string, string])[] = [
    [memberNames.base, dir.base],
    [memberNames.changeSet, dir.changeSet],
    [memberNames.patch, dir.patch],
    [memberNames.diff, join(dir.path, 'diff.json')],
    [memberNames.policy, dir.policy],
  ];
  return Promise.all(
    names.map(async ([name, path]) => {
      const bytes = await readFile(path).catch((cause: unknown) => {
        const message = `run ${dir.id} cannot be exported: its ${name} is not there any more (${messageOf(cause)}); its policy says how long a diff is kept`;
        throw new RunnerError('run_not_found', message, { cause });
      });
      return inMemory(name, name === memberNames.policy ? withoutPlaces(bytes) : bytes);
    }),
  );
}

/** Texts and task are what a policy is; in which directory of this machine a text was found is nobody's business elsewhere. */
function withoutPlaces(policy: Buffer): string {
  const text = policy.toString('utf8');
  const parsed = PolicyFiles.safeParse(parseJson(text));
  if (!parsed.success) return text; // whoever reads the facts says what is wrong with it
  const files = parsed.data.files.map((file) => ({ ...file, source: basename(file.source) }));
  return canonicalJson({ ...parsed.data, files });
}

const PolicyFiles = z.looseObject({ files: z.array(z.looseObject({ source: z.string() })) });

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** What the journal says that people were asked, with the whole text that they saw; the answer is the journal's. */
async function approvalsOf(dir: RunDir, story: Story): Promise<readonly BundledApproval[]> {
  const records = await new ApprovalFiles(dir.approvalsDir).readAll();
  return records
    .filter(({ request }) => story.asked.has(request.id))
    .sort((a, b) => (a.request.id < b.request.id ? -1 : 1))
    .map(({ request }) => {
      const decided = story.decided.get(request.id);
      const outcome = decided === undefined ? null : { kind: decided.verdict, by: decided.by, reason: decided.reason };
      return { request, outcome };
    });
}

/** What is in the image, where this machine still knows: of an environment that it has built, or of an image that is shipped. */
async function environmentOf(dataDir: DataDir, { opened }: Story): Promise<readonly GatheredFile[]> {
  const built = await listEnvironmentLocks(dataDir.path).catch(() => []);
  const shipped = await Promise.all((await imageNames()).map((name) => findLock(name, shippedImagesDir)));
  const lock = [...built, ...shipped].find((one) => one?.id === opened.image.id);
  return lock === undefined
    ? []
    : [inMemory(memberNames.environment, canonicalJson({ lock } satisfies BundledEnvironment))];
}

async function verificationOf(dataDir: DataDir, dir: RunDir): Promise<readonly GatheredFile[]> {
  const found = await findVerification(dir);
  if (found === undefined) return [];
  const journals = await Promise.all(
    found.verification.runs.map(async ({ run }) => {
      const path = dataDir.runDir(run).journal;
      const isThere = await stat(path).then(
        () => true,
        () => false, // kept no longer
      );
      return isThere ? [await onDisk(verificationJournalName(run), path)] : [];
    }),
  );
  return [inMemory(memberNames.verification, encodeVerification(found.verification)), ...journals.flat()];
}

async function replayOf(dir: RunDir): Promise<readonly GatheredFile[]> {
  const found = await findReplay(dir);
  return found === undefined ? [] : [inMemory(memberNames.replay, encodeReplay(found.record))];
}

async function contentsOf(dir: RunDir, blobs: BlobStore): Promise<readonly GatheredFile[]> {
  const { changes } = parseChangeSet(await readFile(dir.changeSet, 'utf8'));
  const sizes = new Map<Digest, number>();
  for (const change of changes.values()) if (change.kind === 'file') sizes.set(change.digest, change.sizeBytes);
  return [...sizes].map(([digest, bytes]) => ({
    path: contentName(digest),
    bytes,
    chunks: () => (bytes <= wholeBytesMax ? whole(blobs, digest) : blobs.stream(digest)),
  }));
}

/** A small one takes a tenth of the time so. */
async function* whole(blobs: BlobStore, digest: Digest): AsyncGenerator<Uint8Array> {
  yield await blobs.get(digest);
}

const wholeBytesMax = 1024 * 1024;

/** What retention has left of them. */
async function outputsOf(dir: RunDir, { outputs }: Story): Promise<readonly GatheredFile[]> {
  const logs = findOutputs(dir.callsDir);
  return [...outputs].flatMap(([digest, { bytes, callId }]) => {
    const log = logs.get(callId);
    if (log === undefined) return [];
    return [{ path: outputName(digest), bytes, chunks: () => piecesOf(log()) }];
  });
}

/** They stay as long as the journal that names them. */
async function contextsOf(dir: RunDir, { work }: Story): Promise<readonly GatheredFile[]> {
  return Promise.all(
    work.attached.map(async ({ said: { digest } }) => {
      const snapshot = await findContext(dir, digest);
      if (snapshot !== undefined) return inMemory(contextName(digest), encodeContext(snapshot));
      const message = `run ${dir.id} cannot be exported: its context snapshot ${digest} is not there any more`;
      throw new RunnerError('run_not_found', message);
    }),
  );
}

async function* piecesOf(log: OutputLog): AsyncGenerator<Uint8Array> {
  for (let offset = 0; ;) {
    const { bytes, nextOffset } = await log.read(offset, 1 << 18);
    if (bytes.length === 0) return;
    yield bytes;
    offset = nextOffset;
  }
}

/** Those that are there still, with the sections that stand beside them. */
async function fingerprintsOf(dir: RunDir, { fingerprints }: Story): Promise<readonly GatheredFile[]> {
  const files = new Map<string, GatheredFile>();
  for (const [document, { sections }] of fingerprints) {
    const apart = apartNames.flatMap((name) => sections[name] ?? []);
    const found = [document, ...apart].map((of) => [fingerprintName(of), fileOf(dir, of)] as const);
    const isWhole = await Promise.all(found.map(([, file]) => access(file))).then(
      () => true,
      () => false,
    );
    if (isWhole) for (const [name, file] of found) files.set(name, await onDisk(name, file));
  }
  return [...files.values()];
}

async function onDisk(path: string, file: string): Promise<GatheredFile> {
  const { size } = await stat(file);
  return { path, bytes: size, chunks: () => createReadStream(file) as AsyncIterable<Uint8Array>, onDisk: file };
}

function inMemory(path: string, content: string | Uint8Array): GatheredFile {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return { path, bytes: bytes.length, chunks: () => [bytes] };
}

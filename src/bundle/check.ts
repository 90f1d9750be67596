import { constants } from 'node:fs';
import { createHash, type KeyObject } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { Verification } from '../verify/verification.ts';
import type { ChangeSet } from '../workspace/change-set.ts';
import { readArchive, type ArchivedFile } from './archive.ts';
import { contradictions } from './contradictions.ts';
import { describe } from './described.ts';
import { driftProblems, replayProblems } from './drifted.ts';
import { openEnvelope } from './envelope.ts';
import { readFacts, type BundleFiles, type Facts } from './facts.ts';
import { parseManifest, type Manifest, type ManifestMember } from './manifest.ts';
import { contentBytesMax, contentName, digestInName, memberNames, textBytesMax, utf8Of } from './members.ts';
import { readBytesMax, ReadAhead } from './read-ahead.ts';
import { firstDifferences, formatProblem, problem, problemsMax, type Problem } from './problem.ts';
import { provenanceText, testResultText } from './statements.ts';

/**
 * Whether a bundle is what somebody with one of these keys has exported. Needs the file and the keys: no engine, no data directory,
 * no network. Promises:
 *  - whatever is wrong is named by file and field, and one problem is enough: nothing of such a bundle is to be used;
 *  - each byte of the file is what it has to be: headers, padding and end are compared with what they would be had this bundle been
 *    written here, all files are hashed, texts have one form, and a signature is over all of it;
 *  - the files tell one story: manifest and statements are made anew from the others, and compared;
 *  - memory holds one text of the bundle at a time, and these are bounded; links and directories are never made.
 */
export interface BundleCheck {
  readonly problems: readonly Problem[];
  /** Undefined where there are problems. */
  readonly bundle: CheckedBundle | undefined;
}

/** What a bundle says, after all of it was found to be true. */
export interface CheckedBundle {
  readonly manifest: Manifest;
  /** What reviews and promotions are bound to. */
  readonly digest: Digest;
  /** Id of the key that has signed it. */
  readonly signedBy: string;
  readonly facts: Facts;
  readonly changeSet: ChangeSet;
  readonly policy: LoadedPolicy;
  readonly verification: Verification | undefined;
  /** A new content of the change set, hashed again as it is read. Throws `bundle_refused` where the file has changed since. */
  readonly contents: (digest: Digest) => Promise<Buffer>;
  readonly patch: () => Promise<Buffer>;
}

/** The same for whoever wants to use it: throws `bundle_refused`, which names the first problems. */
export async function readBundle(path: string, keys: readonly KeyObject[]): Promise<CheckedBundle> {
  const { bundle, problems } = await checkBundle(path, keys);
  if (bundle !== undefined) return bundle;
  const shown = problems.slice(0, 3).map(formatProblem).join('; ');
  throw new RunnerError('bundle_refused', `${path} is not used: ${shown}; glovebox check names all that is wrong`);
}

export async function checkBundle(path: string, keys: readonly KeyObject[]): Promise<BundleCheck> {
  const file = await openFile(path);
  try {
    const problems: Problem[] = [];
    const found = await scan(new ReadAhead(file), problems);
    const judged = problems.length > 0 ? undefined : await judge(path, file, found, keys, problems);
    return { problems: problems.slice(0, problemsMax), bundle: problems.length > 0 ? undefined : judged };
  } finally {
    await file.close();
  }
}

interface ScannedFile extends ArchivedFile {
  readonly digest: Digest;
}
type Scanned = ReadonlyMap<string, ScannedFile>;

/** Every file of the archive with its digest, in the order of the archive. */
async function scan(file: ReadAhead, problems: Problem[]): Promise<Scanned> {
  const found = new Map<string, ScannedFile>();
  for await (const item of readArchive(file)) {
    if (item.kind === 'problem') {
      problems.push(item.problem);
      break;
    }
    const digest = await hashOf(file, item);
    const said = digestInName(item.path);
    if (said !== undefined && said !== digest) problems.push(problem(item.path, 'digest', `its content is ${digest}`));
    found.set(item.path, { ...item, digest });
  }
  return found;
}

async function judge(
  path: string,
  file: FileHandle,
  found: Scanned,
  keys: readonly KeyObject[],
  problems: Problem[],
): Promise<CheckedBundle | undefined> {
  const manifest = await manifestIn(file, found, problems);
  const statements = await statementsIn(file, found, keys, problems);
  if (manifest === undefined) return undefined;
  if (!holdMembers(manifest, found, problems)) return undefined;
  const files = asBundleFiles(file, found, manifest);
  const facts = await readFacts(files, problems);
  if (facts === undefined) return undefined;
  problems.push(...contradictions(facts, files), ...driftProblems(facts), ...replayProblems(facts));
  const categories = new Map(manifest.changes.map((change) => [change.path, change.categories]));
  const due = describe(facts, files, (name) => categories.get(name) ?? []);
  problems.push(...firstDifferences(memberNames.manifest, manifest, due));
  const digest = found.get(memberNames.manifest)?.digest ?? digestOf('');
  const signedBy = holdStatements({ manifest, digest, facts }, statements, problems);
  if (signedBy === undefined) return undefined;
  const { changeSet, policy, verification } = facts;
  const again = (name: string) => readAgain(path, found, name);
  return {
    manifest,
    digest,
    signedBy,
    facts,
    changeSet,
    policy,
    verification,
    contents: (wanted) => again(contentName(wanted)),
    patch: () => again(memberNames.patch),
  };
}

async function manifestIn(file: FileHandle, found: Scanned, problems: Problem[]): Promise<Manifest | undefined> {
  try {
    return parseManifest(await textIn(file, found, memberNames.manifest));
  } catch (error) {
    problems.push(problem(memberNames.manifest, '', messageOf(error)));
    return undefined;
  }
}

/** All that it names is there, as it says and where it belongs, and nothing else is. */
function holdMembers(manifest: Manifest, found: Scanned, problems: Problem[]): boolean {
  const before = problems.length;
  const signed = [
    memberNames.manifest,
    memberNames.provenance,
    ...(manifest.verification === undefined ? [] : [memberNames.testResult]),
  ];
  const due = [...signed, ...manifest.members.map((member) => member.path)];
  const names = [...found.keys()];
  const named = new Map(manifest.members.map((member) => [member.path, member]));
  for (const name of due) if (!found.has(name)) problems.push(problem(name, '', 'it is missing'));
  for (const name of names)
    if (!named.has(name) && !signed.some((one) => one === name))
      problems.push(problem(name, '', 'the manifest does not name it'));
  if (problems.length > before) return false;
  const odd = due.findIndex((name, index) => names[index] !== name);
  if (odd >= 0) problems.push(problem(names[odd] ?? 'archive', 'order', `it stands where ${due[odd] ?? ''} belongs`));
  for (const { path, bytes, digest } of named.values()) {
    const is = found.get(path);
    if (is?.bytes !== bytes) problems.push(problem(path, 'bytes', `${is?.bytes ?? 0}, and the manifest says ${bytes}`));
    if (is?.digest !== digest)
      problems.push(problem(path, 'digest', `it is ${is?.digest ?? ''}, and the manifest says ${digest}`));
  }
  return problems.length === before;
}

interface Signed {
  readonly payload: string;
  /** Id of the key. */
  readonly by: string;
}

/** The statements that are there, opened; a manifest that they are not about was changed, whatever the rest says. */
async function statementsIn(
  file: FileHandle,
  found: Scanned,
  keys: readonly KeyObject[],
  problems: Problem[],
): Promise<ReadonlyMap<string, Signed>> {
  const opened = new Map<string, Signed>();
  for (const name of [memberNames.provenance, memberNames.testResult]) {
    if (!found.has(name)) continue;
    const envelope = await textIn(file, found, name).then(
      (text) => openEnvelope(text, keys),
      (error: unknown) => ({ kind: 'bad', field: '', message: messageOf(error) }) as const,
    );
    if (envelope.kind === 'bad') problems.push(problem(name, envelope.field, envelope.message));
    else opened.set(name, envelope);
  }
  const digest = found.get(memberNames.manifest)?.digest.slice('sha256:'.length) ?? '';
  if ([...opened.values()].some(({ payload }) => !payload.includes(`"${digest}"`)))
    problems.push(problem(memberNames.manifest, 'digest', `it is sha256:${digest}, and that is not what was signed`));
  return opened;
}

/** The id of the key that has signed all of it. */
function holdStatements(
  { manifest, digest, facts }: Pick<CheckedBundle, 'manifest' | 'digest' | 'facts'>,
  statements: ReadonlyMap<string, Signed>,
  problems: Problem[],
): string | undefined {
  const due: (readonly [string, string])[] = [[memberNames.provenance, provenanceText(manifest, digest, facts)]];
  if (facts.verification !== undefined)
    due.push([memberNames.testResult, testResultText(manifest, digest, facts.verification)]);
  for (const [name, payload] of due) {
    const signed = statements.get(name); // what could not be opened was named before
    if (signed !== undefined) problems.push(...payloadProblems(name, signed.payload, payload));
  }
  const [by, ...others] = new Set([...statements.values()].map((one) => one.by));
  if (others.length > 0)
    problems.push(problem(memberNames.testResult, 'signatures.0.keyid', 'another key than the provenance'));
  return by;
}

function payloadProblems(name: string, payload: string, due: string): readonly Problem[] {
  if (payload === due) return [];
  try {
    const differences = firstDifferences(name, JSON.parse(payload) as unknown, JSON.parse(due) as unknown, 'payload');
    if (differences.length > 0) return differences;
  } catch {
    // It is not JSON, which the line below says well enough.
  }
  return [problem(name, 'payload', 'it is not the statement that this bundle has')];
}

function asBundleFiles(file: FileHandle, found: Scanned, manifest: Manifest): BundleFiles {
  return {
    members: new Map(manifest.members.map((member): [string, ManifestMember] => [member.path, member])),
    text: (name) => textIn(file, found, name),
    withLines: (name, work) => {
      const { offset, bytes } = partOf(found, name);
      return work({
        read: (buffer, at, length, position) =>
          file.read(buffer, at, Math.max(0, Math.min(length, bytes - position)), offset + position),
      });
    },
  };
}

async function textIn(file: FileHandle, found: Scanned, name: string): Promise<string> {
  return utf8Of(await bytesIn(file, partOf(found, name), textBytesMax));
}

function partOf(found: Scanned, name: string): ScannedFile {
  const part = found.get(name);
  if (part === undefined) throw new Error('it is missing');
  return part;
}

/** Bounded, and hashed as it is read: a file that somebody changes meanwhile is no other text than was checked. */
async function bytesIn(file: FileHandle, { bytes, offset, digest }: ScannedFile, bytesMax: number): Promise<Buffer> {
  if (bytes > bytesMax) throw new Error(`it has ${bytes} bytes, and at most ${bytesMax} are read`);
  const buffer = Buffer.alloc(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, offset + done);
    if (bytesRead === 0) throw new Error('the file ends within it');
    done += bytesRead;
  }
  if (digestOf(buffer) !== digest) throw new Error('the file is being changed while it is read');
  return buffer;
}

async function readAgain(path: string, found: Scanned, name: string): Promise<Buffer> {
  const file = await openFile(path);
  try {
    return await bytesIn(file, partOf(found, name), contentBytesMax);
  } catch (cause) {
    throw new RunnerError('bundle_refused', `${name} of ${path}: ${messageOf(cause)}; nothing more is taken from it`, {
      cause,
    });
  } finally {
    await file.close();
  }
}

async function hashOf(file: ReadAhead, { bytes, offset }: ArchivedFile): Promise<Digest> {
  const hash = createHash('sha256');
  for (let done = 0; done < bytes;) {
    const piece = await file.read(offset + done, Math.min(bytes - done, readBytesMax));
    if (piece.length === 0) break;
    hash.update(piece);
    done += piece.length;
  }
  return `sha256:${hash.digest('hex')}`;
}

async function openFile(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    throw new RunnerError(
      'invalid_request',
      `cannot read the bundle ${path}: ${messageOf(cause)}; name what glovebox export has written`,
      { cause },
    );
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new RunnerError('invalid_request', `${path} is no regular file; name what glovebox export has written`);
}

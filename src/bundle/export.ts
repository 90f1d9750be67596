import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import type { DataDir } from '../data-dir/data-dir.ts';
import { digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { classifyChanges } from '../workspace/changes/classify.ts';
import { makePatch } from '../workspace/patch/patch.ts';
import { archiveBytes, archiveOf, type FileToWrite } from './archive.ts';
import { contradictions } from './contradictions.ts';
import { describe } from './described.ts';
import { refuseDrifted, refuseReplay } from './drifted.ts';
import { sealEnvelope } from './envelope.ts';
import { readFacts, type BundleFiles, type Facts } from './facts.ts';
import { gather, type GatheredFile } from './gathered.ts';
import { digestOfManifest, encodeManifest, type Manifest, type ManifestMember } from './manifest.ts';
import { digestInName, memberNames, textBytesMax, utf8Of } from './members.ts';
import { formatProblem, type Problem } from './problem.ts';
import type { SigningKey } from './signing-key.ts';
import { provenanceText, testResultText } from './statements.ts';

/** What a closed run comes to: what its manifest says, and the files that it names. Nothing of it is signed yet. */
export interface DescribedRun {
  readonly manifest: Manifest;
  /** What reviews and promotions are bound to. */
  readonly digest: Digest;
  readonly facts: Facts;
  readonly files: readonly FileToWrite[];
}

/** A bundle that is ready to be written: the same run and key give the same bytes. */
export interface Bundle {
  readonly manifest: Manifest;
  readonly digest: Digest;
  readonly bytes: number;
  /** Throws where a file is not any more what it was a moment ago. */
  readonly chunks: () => AsyncGenerator<Uint8Array, void, undefined>;
}

/**
 * Reads all that a run has left and holds it against its journal. Promises:
 *  - what the journal names by digest is that, or nothing is described: change set, base, policy, contents, outputs, approvals;
 *  - the patch is the one that the change set gives, made anew; what changes look like is found anew too, and added;
 *  - the data directory is only read.
 * Throws `run_not_open` for one that is not closed, `journal_broken` where something is not what was written, and
 * `export_refused` where its environment has drifted and its policy says that nothing of it leaves.
 */
export async function describeRun(dataDir: DataDir, idOrPrefix: string): Promise<DescribedRun> {
  const dir = await dataDir.findRun(idOrPrefix);
  const blobs = await BlobStore.open(dataDir.blobsDir);
  const files = await gather(dataDir, dir, blobs);
  const members = await membersOf(files, dir.id);
  const bundled = asBundleFiles(files, members);
  const problems: Problem[] = [];
  const facts = await readFacts(bundled, problems);
  if (facts === undefined) throw notExported(dir.id, problems);
  problems.push(...contradictions(facts, bundled));
  if (problems.length > 0) throw notExported(dir.id, problems);
  refuseReplay(facts);
  refuseDrifted(dir.id, facts);
  const { base, changeSet } = facts;
  const patch = await makePatch(base, changeSet, blobs);
  if (digestOf(patch.bytes) !== members.get(memberNames.patch)?.digest)
    throw notExported(dir.id, [
      {
        member: memberNames.patch,
        field: '',
        message: 'it is not the patch that the change set gives, by the git of this machine',
      },
    ]);
  const categories = new Map((await classifyChanges(base, changeSet, blobs)).map((one) => [one.path, one.categories]));
  const manifest = describe(facts, bundled, (path) => categories.get(path) ?? []);
  await failpoint('export.described');
  return { manifest, digest: digestOfManifest(manifest), facts, files };
}

/** Signs what was described. */
export function sealBundle({ manifest, digest, facts, files }: DescribedRun, key: SigningKey): Bundle {
  const envelope = (path: string, payload: string) => textFile(path, sealEnvelope(payload, key.private));
  const digests = new Map(manifest.members.map((member) => [member.path, member.digest]));
  const all = [
    textFile(memberNames.manifest, encodeManifest(manifest)),
    envelope(memberNames.provenance, provenanceText(manifest, digest, facts)),
    ...(facts.verification === undefined
      ? []
      : [envelope(memberNames.testResult, testResultText(manifest, digest, facts.verification))]),
    ...files.map((file) => unchanged(file, digests)),
  ];
  return { manifest, digest, bytes: archiveBytes(all), chunks: () => archiveOf(all) };
}

function textFile(path: string, text: string): FileToWrite {
  const bytes = Buffer.from(text);
  return { path, bytes: bytes.length, chunks: () => [bytes] };
}

/** What was described a moment ago is what is written: else the bundle ends there, and nobody takes it for one. */
function unchanged({ path, bytes, chunks }: FileToWrite, digests: ReadonlyMap<string, Digest>): FileToWrite {
  const due = digests.get(path);
  return {
    path,
    bytes,
    chunks: async function* () {
      const hash = createHash('sha256');
      for await (const chunk of chunks()) {
        hash.update(chunk);
        yield chunk;
      }
      if (`sha256:${hash.digest('hex')}` !== due) throw new Error(`${path} has changed while it was exported`);
    },
  };
}

/** One pass over everything; a content or an output that is not what its name says is found here. */
async function membersOf(files: readonly GatheredFile[], run: string): Promise<ReadonlyMap<string, ManifestMember>> {
  const members = new Map<string, ManifestMember>();
  for (const { path, bytes, chunks } of files) {
    const hash = createHash('sha256');
    let found = 0;
    try {
      for await (const chunk of chunks()) {
        hash.update(chunk);
        found += chunk.length;
      }
    } catch (cause) {
      const message = `run ${run} cannot be exported: ${path} cannot be read: ${messageOf(cause)}`;
      throw new RunnerError('journal_broken', message, { cause });
    }
    const digest: Digest = `sha256:${hash.digest('hex')}`;
    const said = digestInName(path);
    if (found !== bytes || (said !== undefined && said !== digest))
      throw notExported(run, [
        { member: path, field: '', message: `what is kept of it has ${found} bytes and ${digest}` },
      ]);
    members.set(path, { path, bytes, digest });
  }
  return members;
}

function asBundleFiles(files: readonly GatheredFile[], members: BundleFiles['members']): BundleFiles {
  const byName = new Map(files.map((file) => [file.path, file]));
  return {
    members,
    text: async (name) => {
      const file = byName.get(name);
      if (file === undefined || file.bytes > textBytesMax) throw new Error(`it has more than ${textBytesMax} bytes`);
      const pieces: Uint8Array[] = [];
      for await (const piece of file.chunks()) pieces.push(piece);
      return utf8Of(Buffer.concat(pieces));
    },
    withLines: async (name, work) => {
      const path = byName.get(name)?.onDisk;
      if (path === undefined) throw new Error(`${name} is no file on disk`);
      const file: FileHandle = await open(path, 'r');
      try {
        return await work(file);
      } finally {
        await file.close();
      }
    },
  };
}

function notExported(run: string, problems: readonly Problem[]): RunnerError {
  const shown = problems.slice(0, 3).map(formatProblem).join('; ');
  return new RunnerError('journal_broken', `run ${run} cannot be exported, it is not what was written: ${shown}`);
}

import { z } from 'zod';
import { ApprovalRecord } from '../approvals/approval-files.ts';
import { contextsBytesMax, contextsMax } from '../context/context-files.ts';
import { contextBytesMax, parseEncodedContext, type ContextSnapshot } from '../context/context-snapshot.ts';
import { DiffView } from '../contract/diff-view.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { messageOf } from '../errors.ts';
import { EnvironmentLock } from '../environment/lock.ts';
import { ImageLock } from '../images/lock.ts';
import { checkJournalIn, formatCheck } from '../journal/check.ts';
import type { LineSource } from '../journal/lines.ts';
import { parsePolicyRecord } from '../policy/policy-record.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { encodeReplay, ReplayRecord } from '../replay/replay-record.ts';
import { encodeVerification, Verification } from '../verify/verification.ts';
import type { ChangeSet, Tree } from '../workspace/change-set.ts';
import { encodeChangeSet, encodeTree, parseChangeSet, parseTree } from '../workspace/manifest.ts';
import { readFingerprints, type BundledFingerprint } from './bundled-fingerprints.ts';
import type { ManifestMember } from './manifest.ts';
import { contextName, memberNames } from './members.ts';
import { problem, type Problem } from './problem.ts';
import { readStory, type Story } from './story.ts';

/** The files of a bundle, whether it is to be written or was: what they are is what is asked of both. */
export interface BundleFiles {
  /** By name, without manifest and statements. */
  readonly members: ReadonlyMap<string, ManifestMember>;
  /** Throws for one that is longer than any text is. */
  text(name: string): Promise<string>;
  /** The file is open while `work` is under way. */
  withLines<T>(name: string, work: (source: LineSource) => Promise<T>): Promise<T>;
}

/** What the files say, each by itself: read, strict, and in its one form where it has one. */
export interface Facts {
  readonly story: Story;
  readonly policy: LoadedPolicy;
  readonly base: Tree;
  readonly changeSet: ChangeSet;
  readonly diff: DiffView;
  readonly intent: string;
  readonly approvals: readonly BundledApproval[];
  readonly environment: BundledEnvironment | undefined;
  /** By the document that the journal names. */
  readonly fingerprints: ReadonlyMap<Digest, BundledFingerprint>;
  readonly verification: Verification | undefined;
  readonly replay: ReplayRecord | undefined;
  /** What agents said that they believed, by digest. */
  readonly contexts: ReadonlyMap<Digest, ContextSnapshot>;
  /** Of the journals of runs that the verification has opened, by run. */
  readonly verificationHeads: ReadonlyMap<string, Digest>;
}

/** What a person was asked, whole, and what came of it. */
export type BundledApproval = Readonly<z.infer<typeof BundledApproval>>;
const BundledApproval = z.strictObject({
  request: ApprovalRecord.shape.request,
  outcome: ApprovalRecord.shape.outcome,
});

/** What an image was made of and which packages are in it. */
export const BundledEnvironment = z.strictObject({ lock: z.union([EnvironmentLock, ImageLock]) });
export type BundledEnvironment = Readonly<z.infer<typeof BundledEnvironment>>;

/** Undefined where something could not be read: the problems say what. */
export async function readFacts(files: BundleFiles, problems: Problem[]): Promise<Facts | undefined> {
  const { members } = files;
  const read = async <T>(name: string, parse: (text: string) => T): Promise<T | undefined> => {
    if (!members.has(name)) {
      problems.push(problem(name, '', 'it is missing'));
      return undefined;
    }
    try {
      return parse(await files.text(name));
    } catch (error) {
      problems.push(problem(name, fieldOf(error), messageOf(rootOf(error))));
      return undefined;
    }
  };
  const optional = <T>(name: string, parse: (text: string) => T) =>
    members.has(name) ? read(name, parse) : Promise.resolve(undefined);
  const before = problems.length;
  const story = await storyOf(files, memberNames.journal, problems);
  const policy = await read(memberNames.policy, (text) => parsePolicyRecord(text, memberNames.policy));
  const base = await read(memberNames.base, (text) => inOneForm(parseTree(text), encodeTree, text));
  const changeSet = await read(memberNames.changeSet, (text) => inOneForm(parseChangeSet(text), encodeChangeSet, text));
  const diff = await read(memberNames.diff, (text) => DiffView.parse(JSON.parse(text)));
  const intent = await read(memberNames.intent, (text) => text);
  const approvals = await read(memberNames.approvals, (text) => canonical(z.array(BundledApproval).max(10_000), text));
  const environment = await optional(memberNames.environment, (text) => canonical(BundledEnvironment, text));
  const verification = await optional(memberNames.verification, (text) =>
    inOneForm(Verification.parse(JSON.parse(text)), encodeVerification, text),
  );
  const replay = await optional(memberNames.replay, (text) =>
    inOneForm(ReplayRecord.parse(JSON.parse(text)), encodeReplay, text),
  );
  const verificationHeads = await headsOf(files, problems);
  const fingerprints =
    story === undefined ? new Map<Digest, BundledFingerprint>() : await readFingerprints(story, files, problems);
  const contexts = new Map<Digest, ContextSnapshot>();
  const attached = story?.work.attached ?? [];
  if (attached.length > contextsMax)
    problems.push(
      problem(memberNames.journal, '', `it has ${attached.length} context snapshots; ${contextsMax} are possible`),
    );
  let contextBytesLeft = contextsBytesMax;
  for (const { said } of attached.slice(0, contextsMax)) {
    const name = contextName(said.digest);
    const bytes = members.get(name)?.bytes ?? 0;
    contextBytesLeft -= bytes;
    if (bytes > contextBytesMax || contextBytesLeft < 0) {
      problems.push(
        problem(name, 'bytes', `${bytes}; ${contextBytesMax} are possible, and ${contextsBytesMax} of all`),
      );
      break;
    }
    const found = await read(name, (text) => parseEncodedContext(text, said.digest));
    if (found !== undefined) contexts.set(said.digest, found);
  }
  if (problems.length > before) return undefined;
  if (
    story === undefined ||
    policy === undefined ||
    base === undefined ||
    changeSet === undefined ||
    diff === undefined ||
    intent === undefined ||
    approvals === undefined
  )
    return undefined;
  const told = { story, policy, base, changeSet, diff, intent, approvals, environment, verification, replay };
  return { ...told, fingerprints, contexts, verificationHeads };
}

async function storyOf(files: BundleFiles, name: string, problems: Problem[]): Promise<Story | undefined> {
  if (!files.members.has(name)) {
    problems.push(problem(name, '', 'it is missing'));
    return undefined;
  }
  const story = await files.withLines(name, (source) => readStory(source, name));
  if (!('problem' in story)) return story;
  problems.push(problem(name, story.field, story.problem));
  return undefined;
}

async function headsOf(files: BundleFiles, problems: Problem[]): Promise<ReadonlyMap<string, Digest>> {
  const heads = new Map<string, Digest>();
  for (const name of files.members.keys()) {
    const run = /^verification\/([0-9a-z]{26})\.ndjson$/.exec(name)?.[1];
    if (run === undefined) continue;
    const check = await files.withLines(name, (source) => checkJournalIn(source));
    if (check.verdict !== 'closed' || check.head === undefined)
      problems.push(problem(name, '', formatCheck(check).slice(0, 2).join('; ')));
    else if (check.run !== run) problems.push(problem(name, 'run', `it is of run ${check.run ?? 'none'}`));
    else heads.set(run, check.head);
  }
  return heads;
}

function canonical<T extends z.ZodType>(schema: T, text: string): z.infer<T> {
  return inOneForm(schema.parse(JSON.parse(text)), canonicalJson, text);
}

function inOneForm<T>(value: T, encode: (value: T) => string, text: string): T {
  if (encode(value) !== text) throw new Error('it is not written in the one form that it has');
  return value;
}

/** The parsers of trees and policies say in the cause what is wrong where. */
function rootOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? rootOf(error.cause) : error;
}

function fieldOf(error: unknown): string {
  const root = rootOf(error);
  return root instanceof z.ZodError ? (root.issues[0]?.path.join('.') ?? '') : '';
}

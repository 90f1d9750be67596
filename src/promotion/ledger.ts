import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { namesIn } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import { digestOfVerification, encodeVerification, type Verification } from '../verify/verification.ts';
import { FileLock } from '../store/file-lock.ts';

/**
 * What was promoted where, in records of their own: what is intended is on disk before a repository is touched, what was done
 * after it, and each names by digest the record before it. `promotions/<id>/` in the data directory.
 */
const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const id = z.string().regex(idPattern);
const commit = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/);
const at = z.iso.datetime({ precision: 3 });
const text = z.string().max(4096);
const branch = z.string().max(300);

export const Intended = z.strictObject({
  v: z.literal(1),
  id,
  at,
  by: text,
  /** Of the manifest: what was reviewed, and is promoted. */
  bundle: digest,
  run: id,
  policy: digest,
  lane: text.nullable(),
  repository: z.string().max(8192),
  branch,
  /** What the branch named; absent where it is made. */
  from: commit.optional(),
  parent: commit,
  author: z.strictObject({ name: text, email: text }),
  subject: text,
  verdict: z.enum(['passed', 'needs_review']),
  /** Of the verification on another base than the run's, where that had moved. */
  reverified: digest.optional(),
  demand: z.strictObject({
    action: z.enum(['auto', 'review']),
    reviews: z.int().nonnegative(),
    owners: z.boolean(),
    because: z.array(text).max(64).readonly(),
  }),
  /** Why a lane needed more than its rules say. */
  tightened: text.optional(),
  reviewers: z.array(text).max(64).readonly(),
  /** What is changed, from the top of the repository; hostile text. */
  paths: z.array(z.string().max(16_384)).readonly(),
});
export type Intended = Readonly<z.infer<typeof Intended>>;

export const Done = z.strictObject({ v: z.literal(1), id, at, intended: digest, commit });
export type Done = Readonly<z.infer<typeof Done>>;

export const RollingBack = z.strictObject({
  v: z.literal(1),
  id,
  at,
  by: text,
  reason: text,
  branch,
  parent: commit,
  done: digest,
});
export type RollingBack = Readonly<z.infer<typeof RollingBack>>;

const RolledBack = z.strictObject({ v: z.literal(1), id, at, intended: digest, commit, reason: text, by: text });
type RolledBack = Readonly<z.infer<typeof RolledBack>>;

const Pushed = z.strictObject({ v: z.literal(1), id, at, done: digest, remote: text, branch, commit });
type Pushed = Readonly<z.infer<typeof Pushed>>;

const schemas = {
  intended: Intended,
  done: Done,
  'rolling-back': RollingBack,
  'rolled-back': RolledBack,
  pushed: Pushed,
} as const;
type Kind = keyof typeof schemas;
type RecordOf<K extends Kind> = z.infer<(typeof schemas)[K]>;

/** One that is on record, as far as it has come. */
export interface Promotion {
  readonly id: string;
  readonly intended: Intended;
  readonly done?: Done;
  readonly rolledBack?: RolledBack;
  readonly pushed?: Pushed;
}

export class Ledger {
  readonly #directory: string;

  /** Of a data directory. */
  constructor(dataDir: { readonly path: string }) {
    this.#directory = join(dataDir.path, 'promotions');
  }

  /** One bundle goes once onto one branch of one repository: whoever promotes it again finds it. */
  idFor(bundle: Digest, repository: string, ref: string): string {
    const bytes = createHash('sha256')
      .update(canonicalJson([bundle, repository, ref]))
      .digest();
    return Array.from(bytes.subarray(0, 26), (byte) => alphabet[byte % 32]).join('');
  }

  /** While this goes on nobody else works on that promotion, in this process or another. */
  async alone<T>(promotion: string, work: (scratch: string) => Promise<T>): Promise<T> {
    const directory = join(this.#directory, promotion);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const lock = await this.#lock(promotion, join(directory, 'lock'));
    const scratch = join(directory, `.scratch-${newId()}`);
    try {
      for (const name of await readdir(directory))
        if (name.startsWith('.scratch-')) await rm(join(directory, name), { recursive: true, force: true });
      await mkdir(scratch, { mode: 0o700 });
      return await work(scratch);
    } finally {
      await rm(scratch, { recursive: true, force: true });
      lock.release();
    }
  }

  async #lock(promotion: string, file: string): Promise<FileLock> {
    for (const endMs = performance.now() + lockWaitMs; ;) {
      const lock = FileLock.tryAcquire(file);
      if (lock !== undefined) return lock;
      if (performance.now() > endMs)
        throw new RunnerError('conflict', `promotion ${promotion} is worked on by somebody else; try again`);
      await sleep(lockLookMs);
    }
  }

  /** What was found of it on another base; returns its digest. */
  async keepVerification(promotion: string, verification: Verification): Promise<Digest> {
    await writeWhole(join(this.#directory, promotion, 'verification.json'), encodeVerification(verification));
    return digestOfVerification(verification);
  }

  async write<K extends Kind>(kind: K, record: RecordOf<K>): Promise<Digest> {
    const file = this.#file(record.id, kind);
    const content = canonicalJson(schemas[kind].parse(record));
    try {
      await writeWhole(file, content);
    } catch (cause) {
      const message = `${file} cannot be written: ${messageOf(cause)}; make room there, then try again`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
    return digestOf(content);
  }

  /** Undefined where it is not there; `journal_broken` where it is not what was written. */
  async read<K extends Kind>(promotion: string, kind: K): Promise<RecordOf<K> | undefined> {
    const file = this.#file(promotion, kind);
    let content: string;
    try {
      content = await readFile(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const record = schemas[kind].parse(JSON.parse(content)) as RecordOf<K>;
      if (record.id !== promotion || canonicalJson(record) !== content) throw new Error('it was changed');
      return record;
    } catch (cause) {
      throw new RunnerError(
        'journal_broken',
        `${file} is not what was written there: ${messageOf(cause)}; see who changed it, or restore it from a backup`,
        { cause },
      );
    }
  }

  async find(promotion: string): Promise<Promotion | undefined> {
    const intended = await this.read(promotion, 'intended');
    if (intended === undefined) return undefined;
    const done = await this.read(promotion, 'done');
    const rolledBack = await this.read(promotion, 'rolled-back');
    const pushed = await this.read(promotion, 'pushed');
    return {
      id: promotion,
      intended,
      ...(done === undefined ? {} : { done }),
      ...(rolledBack === undefined ? {} : { rolledBack }),
      ...(pushed === undefined ? {} : { pushed }),
    };
  }

  /** By its id or the beginning of it, or of the run's. */
  async get(idOrPrefix: string): Promise<Promotion> {
    const all = await this.list();
    const wanted = idOrPrefix.toLowerCase();
    const fits = ({ id: own, intended }: Promotion): boolean =>
      own.startsWith(wanted) || intended.run.startsWith(wanted);
    const found = wanted === '' ? [] : all.filter(fits);
    const [one] = found;
    if (one !== undefined && found.length === 1) return one;
    const name = JSON.stringify(idOrPrefix.slice(0, 64));
    const why = one === undefined ? 'there is no such promotion' : `it fits ${found.length} promotions`;
    throw new RunnerError('not_found', `${name}: ${why}; glovebox promotions lists them`);
  }

  /** Of all that were ever begun, in no order. */
  async ids(): Promise<readonly string[]> {
    return (await namesIn(this.#directory)).filter((name) => idPattern.test(name));
  }

  /** The newest first. */
  async list(): Promise<readonly Promotion[]> {
    const found = await Promise.all((await this.ids()).map((id) => this.find(id)));
    const promotions = found.filter((one) => one !== undefined);
    return promotions.sort((a, b) => (a.intended.at < b.intended.at ? 1 : -1));
  }

  #file(promotion: string, kind: Kind): string {
    return join(this.#directory, promotion, `${kind}.json`);
  }
}

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const lockWaitMs = 120_000;
const lockLookMs = 15;

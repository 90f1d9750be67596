import { z } from 'zod';

import { canonicalJson, digestOf, type Digest } from '../../digest.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { parseGlob, type Glob } from './glob.ts';

const globList = z.array(z.string()).readonly().default([]);

/** Which paths a run sees and may change, as globs (`glob.ts`). A glob that starts with `!` takes away from its own list. */
export const FileScope = z.strictObject({
  /** Present in the sandbox. Whatever is writable is present too. */
  read: globList,
  /** Changes to these are exported. */
  write: globList,
  /** Writable, never exported, counted. Files of the host are only brought in where `read` says so. */
  scratch: globList,
  /** Absent, whatever the other lists say; everything below a match is too. */
  deny: globList,
});
export type FileScope = z.infer<typeof FileScope>;

const cachedDirectoriesMax = 10_000;

export type PathClass = 'absent' | 'read' | 'write' | 'scratch';

/** Why a path is in its class: the list and the glob that decided; neither when no list names it. */
export interface ScopeReason {
  readonly class: PathClass;
  readonly list?: keyof FileScope;
  readonly glob?: string;
  /** Denied with this directory above it. */
  readonly above?: string;
  /** A glob with `!` that took it out of the list which would have named it. */
  readonly takenAwayBy?: { readonly list: keyof FileScope; readonly glob: string };
}

/**
 * A scope ready to answer. Promises:
 *  - a path that `deny` names, and all that is below it, is `absent`, whatever else names it;
 *  - order within a list means nothing; scratch is stronger than write, write than read;
 *  - a directory belongs to a list when a glob matches it or could match something below it.
 */
export class Scope {
  readonly digest: Digest;
  readonly #read: GlobList;
  readonly #write: GlobList;
  readonly #scratch: GlobList;
  readonly #deny: GlobList;
  readonly #deniedDirectories = new Map<string, boolean>();

  private constructor(scope: FileScope) {
    this.digest = digestOf(canonicalJson(scope));
    this.#read = compileList('read', scope.read);
    this.#write = compileList('write', scope.write);
    this.#scratch = compileList('scratch', scope.scratch);
    this.#deny = compileList('deny', scope.deny);
  }

  /** Throws `invalid_policy`, naming the list and the glob. */
  static compile(scope: FileScope): Scope {
    return new Scope(scope);
  }

  classOf(path: string, kind: 'file' | 'directory' = 'file'): PathClass {
    const segments = segmentsOf(path);
    if (this.#denies(segments)) return 'absent';
    if (this.#scratch.has(segments)) return 'scratch';
    if (this.#write.has(segments)) return 'write';
    if (kind === 'directory') {
      if (this.#write.openings(segments).length > 0) return 'write';
      if (this.#scratch.openings(segments).length > 0) return 'scratch';
      if (this.#read.openings(segments).length > 0) return 'read';
    }
    return this.#read.has(segments) ? 'read' : 'absent';
  }

  /** What `classOf` says of a file, with the list and the glob that decided. */
  explain(path: string): ScopeReason {
    const segments = segmentsOf(path);
    for (let length = 1; length <= segments.length; length++) {
      const at = segments.slice(0, length);
      const glob = this.#deny.has(at) ? this.#deny.naming(at) : undefined;
      if (glob === undefined) continue;
      return { class: 'absent', list: 'deny', glob, ...(length < segments.length ? { above: at.join('/') } : {}) };
    }
    const lists = { scratch: this.#scratch, write: this.#write, read: this.#read } as const;
    let takenAwayBy: ScopeReason['takenAwayBy'];
    for (const name of ['scratch', 'write', 'read'] as const) {
      const glob = lists[name].naming(segments);
      if (glob === undefined) continue;
      if (lists[name].has(segments)) return { class: name, list: name, glob };
      const excluding = lists[name].excluding(segments);
      if (excluding !== undefined) takenAwayBy = { list: name, glob: excluding };
    }
    return { class: 'absent', ...(takenAwayBy === undefined ? {} : { takenAwayBy }) };
  }

  denies(path: string): boolean {
    return this.#denies(segmentsOf(path));
  }

  /**
   * Of what was made inside, whatever it is called: `deny` keeps files of the host out, and that no scratch path ever
   * comes out holds without it. An installed package has its `.npmrc`.
   */
  isScratch(path: string): boolean {
    return this.#scratch.has(segmentsOf(path));
  }

  /** Whether the globs say of a directory that all below it is scratch; when not, what is there has to be asked. */
  isScratchBelow(directory: string): boolean {
    return this.#scratch.covers(segmentsOf(directory));
  }

  /** Whether a file of the host at this path is brought into the sandbox. */
  imports(path: string): boolean {
    const segments = segmentsOf(path);
    if (this.#denies(segments)) return false;
    if (this.#read.has(segments)) return true;
    return this.#write.has(segments) && !this.#scratch.has(segments);
  }

  /**
   * Whether tools need to make names in this directory (`''` is the workspace): a writable file that is replaced needs it
   * as well as a new one. A directory that is there already does not count, what is below it is asked there.
   */
  mayCreateIn(directory: string, hasDirectory: (name: string) => boolean): boolean {
    const segments = segmentsOf(directory);
    if (this.#denies(segments)) return false;
    return [...this.#write.openings(segments), ...this.#scratch.openings(segments)].some(
      (opening) => opening.name === undefined || !hasDirectory(opening.name),
    );
  }

  #denies(segments: readonly string[]): boolean {
    if (segments.length === 0) return false;
    if (this.#deny.has(segments)) return true;
    const parent = segments.slice(0, -1);
    const key = parent.join('/');
    const known = this.#deniedDirectories.get(key);
    if (known !== undefined) return known;
    const denied = this.#denies(parent);
    if (this.#deniedDirectories.size >= cachedDirectoriesMax) this.#deniedDirectories.clear();
    this.#deniedDirectories.set(key, denied);
    return denied;
  }
}

/** Names that usually hold secrets. Data for policies to put into `deny`: nothing is denied by itself. */
export const secretGlobs: readonly string[] = [
  '**/.env',
  '**/.env.*',
  '!**/.env.{example,sample,template,dist}',
  '**/.envrc',
  '**/*.{pem,key,p12,pfx,jks,keystore,kdbx,asc,ppk}',
  '**/id_{rsa,dsa,ecdsa,ed25519,ecdsa_sk,ed25519_sk}',
  '**/.{ssh,aws,azure,gnupg,kube,docker}/**',
  '**/.config/{gcloud,gh,op}/**',
  '**/.{npmrc,yarnrc,yarnrc.yml,pypirc,netrc,pgpass,my.cnf,git-credentials,htpasswd,vault-token,dockercfg,boto,s3cfg}',
  '**/_netrc',
  '**/credentials{,.json,.yml,.yaml,.xml,.toml,.ini,.db}',
  '**/.credentials*/**',
  '**/{service-account,service_account,gcp-key,application_default_credentials}*.json',
  '**/secrets.{json,yml,yaml,toml}',
  '**/*.tfstate{,.backup}',
  '**/*.tfvars',
  '**/{master,production}.key',
];

/** Globs that belong together; one that starts with `!` takes away from the others. */
export interface GlobList {
  has(segments: readonly string[]): boolean;
  /** Whether all that can be below a directory is in it. */
  covers(directory: readonly string[]): boolean;
  openings(directory: readonly string[]): readonly { readonly name: string | undefined }[];
  /** As they are written: the first glob that includes the path, and the first that takes it away (with its `!`). */
  naming(segments: readonly string[]): string | undefined;
  excluding(segments: readonly string[]): string | undefined;
}

/** Throws `invalid_policy`, naming the list and the glob. */
export function compileList(name: string, patterns: readonly string[]): GlobList {
  const included: Named[] = [];
  const excluded: Named[] = [];
  for (const pattern of patterns) {
    const negated = pattern.startsWith('!');
    try {
      const globs = parseGlob(negated ? pattern.slice(1) : pattern);
      (negated ? excluded : included).push(...globs.map((glob) => ({ glob, pattern })));
    } catch (cause) {
      const message = `scope: the glob ${JSON.stringify(pattern)} in '${name}' ${messageOf(cause)}`;
      throw new RunnerError('invalid_policy', message, { cause });
    }
  }
  if (included.length === 0 && excluded.length > 0) {
    throw new RunnerError(
      'invalid_policy',
      `scope: '${name}' only excludes, so it matches nothing; add what it includes`,
    );
  }
  return {
    has: (path) => included.some(({ glob }) => glob.matches(path)) && !excluded.some(({ glob }) => glob.matches(path)),
    covers: (directory) =>
      included.some(({ glob }) => glob.covers && glob.matches(directory)) &&
      !excluded.some(({ glob }) => glob.matches(directory) || glob.openings(directory).length > 0),
    openings: (directory) =>
      excluded.some(({ glob }) => glob.matches(directory))
        ? []
        : included.flatMap(({ glob }) => glob.openings(directory)),
    naming: (path) => included.find(({ glob }) => glob.matches(path))?.pattern,
    excluding: (path) => excluded.find(({ glob }) => glob.matches(path))?.pattern,
  };
}

interface Named {
  readonly glob: Glob;
  readonly pattern: string;
}

export function segmentsOf(path: string): readonly string[] {
  return path === '' ? [] : path.split('/');
}

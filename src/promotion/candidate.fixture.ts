import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DataDir } from '../data-dir/data-dir.ts';
import { digestOfManifest, type Manifest, type ManifestChange, type ManifestNode } from '../bundle/manifest.ts';
import { digestOf, type Digest } from '../digest.ts';
import { newId } from '../ids.ts';
import type { Node } from '../workspace/change-set.ts';
import { sortedByBytes } from '../workspace/diff.ts';
import { promote, type Candidate, type PromoteRequest, type Promoted } from './promote.ts';
import type { Review } from './review.ts';

/** A text; `-> x` is a link, a text that begins with `#!` a program, null is nothing. */
export type Files = Readonly<Record<string, string | null>>;

/** A repository of its own, whose git asks nobody's configuration. */
export class TestRepository {
  readonly home = mkdtempSync(join(tmpdir(), 'glovebox-promotion-'));
  readonly path = join(this.home, 'repo');

  constructor(files: Files, options: readonly string[] = []) {
    mkdirSync(this.path);
    this.git('init', '-q', '-b', 'main', ...options);
    this.commit(files);
  }

  git(...args: readonly string[]): string {
    const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'commit.gpgsign=false'];
    const env = { PATH: process.env['PATH'], GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
    return execFileSync('git', [...identity, ...args], { cwd: this.path, env, stdio: 'pipe' })
      .toString()
      .replace(/\n+$/, '');
  }

  commit(files: Files): string {
    for (const [path, text] of Object.entries(files)) {
      const file = join(this.path, path);
      rmSync(file, { recursive: true, force: true });
      if (text === null) continue;
      mkdirSync(dirname(file), { recursive: true });
      if (text.startsWith('-> ')) symlinkSync(text.slice(3), file);
      else writeFileSync(file, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 });
    }
    this.git('add', '-A');
    this.git('commit', '-qm', 'base', '--allow-empty');
    return this.git('rev-parse', 'HEAD');
  }

  branches(): string {
    return this.git('for-each-ref', '--format=%(refname) %(objectname)');
  }

  /** What lies in `.git` besides objects and what git itself writes while it is asked. */
  leftovers(): readonly string[] {
    const all = readdirSync(join(this.path, '.git'), { recursive: true, encoding: 'utf8' });
    return all.filter((name) => /\.lock$|glovebox-.*\.new$|tmp_glovebox/.test(name));
  }

  remove(): void {
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** What a run on `base` with these edits would propose, verified and found good. */
export function candidateOf(
  base: Files,
  edits: Files,
  over: Partial<Manifest> = {},
  policy: Partial<Candidate['policy']> = {},
): Candidate {
  const contents = new Map<Digest, Buffer>();
  const nodeOf = (text: string | null | undefined): Exclude<ManifestNode, { kind: 'directory' }> | undefined => {
    if (text === null || text === undefined) return undefined;
    if (text.startsWith('-> ')) return { kind: 'symlink', target: text.slice(3) };
    const bytes = Buffer.from(text);
    contents.set(digestOf(bytes), bytes);
    return { kind: 'file', mode: text.startsWith('#!') ? 0o755 : 0o644, digest: digestOf(bytes), bytes: bytes.length };
  };
  const changes = Object.entries(edits).map(([path, text]): ManifestChange => {
    const [before, after] = [nodeOf(base[path]), nodeOf(text)];
    const status = after === undefined ? 'deleted' : before === undefined ? 'added' : 'modified';
    const nodes = { ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }) };
    return { path, status, ...nodes, categories: ['source'], flags: [] };
  });
  const tree = Object.entries(base).map(([path, text]): [string, Node] => {
    const node = nodeOf(text);
    if (node?.kind === 'file')
      return [path, { kind: 'file', mode: node.mode, digest: node.digest, sizeBytes: node.bytes }];
    return [path, node ?? { kind: 'directory' }];
  });
  const manifest: Manifest = {
    v: 1,
    run: newId(),
    policy: digestOf('policy'),
    candidate: digestOf(JSON.stringify(changes)),
    base: { digest: digestOf('base') },
    image: { reference: 'base', id: digestOf('image') },
    intent: 'mend it',
    risk: 'low',
    verification: { id: newId(), digest: digestOf('verification'), verdict: 'passed' },
    journal: { entries: 3, head: digestOf('head') },
    changes,
    members: [],
    ...over,
  };
  return {
    manifest,
    digest: digestOfManifest(manifest),
    policy: { taskClass: null, lane: null, ...policy },
    base: sortedByBytes(new Map(tree)),
    lines: changes.length,
    contents: async (digest) => contents.get(digest) ?? Buffer.alloc(0),
  };
}

/** A repository with a commit, a data directory, and what a run on that commit would propose. */
export class PromotionBench {
  readonly repository: TestRepository;
  readonly dataDir: DataDir;
  readonly #base: Files;
  readonly #edits: Files;

  private constructor(repository: TestRepository, dataDir: DataDir, base: Files, edits: Files) {
    this.repository = repository;
    this.dataDir = dataDir;
    this.#base = base;
    this.#edits = edits;
  }

  static async create(base: Files, edits: Files): Promise<PromotionBench> {
    const repository = new TestRepository(base);
    return new PromotionBench(repository, await DataDir.open(join(repository.home, 'data')), base, edits);
  }

  candidate(edits: Files = this.#edits, at: TestRepository = this.repository): Candidate {
    const commit = at.git('rev-parse', 'HEAD');
    return candidateOf(this.#base, edits, { base: { digest: `sha256:${'0'.repeat(64)}`, commit } });
  }

  /** Accepted by one person. */
  promote(candidate: Candidate, over: Partial<PromoteRequest> = {}): Promise<Promoted> {
    const reviews = [accepted(candidate, 'ada')];
    return promote(this.dataDir, { candidate, repository: this.repository.path, by: 'ada', reviews, ...over });
  }

  remove(): void {
    this.repository.remove();
  }
}

export function accepted(candidate: Candidate, by: string): Review {
  const { run } = candidate.manifest;
  const at = '2026-01-02T03:04:05.678Z';
  return { id: newId(), bundle: candidate.digest, run, verdict: 'accepted', by, reason: '', at, known: 'named' };
}

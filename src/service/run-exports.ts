import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FingerprintView } from '../contract/fingerprint-view.ts';
import type { RunDir } from '../data-dir/data-dir.ts';
import { findNewestFingerprint } from '../drift/recorded.ts';
import { RunnerError } from '../errors.ts';
import { exportDocument } from '../runner.ts';
import type { Scope } from '../store/key-row.ts';
import type { KnownRun } from './open-run.ts';
import type { Principal } from './principal.ts';

interface RunExportsParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  /** Throws `run_not_found`. */
  readonly known: (principal: Principal, run: string) => KnownRun;
}

/** What runs come to: of open ones as they stand, of closed ones from their directories. */
export class RunExports {
  readonly #parts: RunExportsParts;

  constructor(parts: RunExportsParts) {
    this.#parts = parts;
  }

  /** `diff.json`, taken now where the run is open. Throws `not_found` where a lost one has none. */
  async diff(principal: Principal, runId: string): Promise<unknown> {
    const { dir, open } = this.#ask(principal, runId);
    if (open !== undefined) return exportDocument(await open.run.diff(), open.run.policy.digest);
    return JSON.parse((await readKept(dir, 'diff.json')).toString('utf8')) as unknown;
  }

  /** What `git apply` takes. */
  async patch(principal: Principal, runId: string): Promise<Uint8Array> {
    const { dir, open } = this.#ask(principal, runId);
    return open === undefined ? readKept(dir, 'changes.patch') : (await open.run.diff()).patch.bytes;
  }

  /** Taken now where the run is open, else the newest on record. Throws `not_found`; `journal_broken` where it was changed. */
  async fingerprint(principal: Principal, runId: string): Promise<FingerprintView> {
    const { dir, open } = this.#ask(principal, runId);
    if (open !== undefined) return { at: 'asked', ...(await open.run.fingerprints.asked()) };
    const found = await findNewestFingerprint(dir);
    if (found !== undefined) return found;
    throw new RunnerError('not_found', `run ${dir.id} was closed before anybody could look at its environment`);
  }

  /** Path of its journal. */
  journal(principal: Principal, runId: string): string {
    return this.#ask(principal, runId).dir.journal;
  }

  #ask(principal: Principal, runId: string): KnownRun {
    this.#parts.ask(principal, 'read');
    return this.#parts.known(principal, runId);
  }
}

async function readKept(dir: RunDir, name: string): Promise<Buffer> {
  return readFile(join(dir.path, name)).catch((cause: unknown) => {
    const message = `run ${dir.id} has no diff: its sandbox was lost, or what it left is no longer kept`;
    throw new RunnerError('not_found', message, { cause });
  });
}

import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RunnerError } from '../errors.ts';
import { callIdPattern } from '../ids.ts';

/** Where things of one run are, or of a sandbox that waits for one; absolute paths. */
export class RunDir {
  readonly id: string;
  readonly path: string;
  readonly journal: string;
  /** The policy files as they were given, and the task. What holds is in the journal. */
  readonly policy: string;
  readonly callsDir: string;
  /** What was answered to calls. */
  readonly answers: string;
  /** What was asked in calls, whole, where the journal has it shortened or not at all. */
  readonly arguments: string;
  /** What its files held in between: `context/content-pack.ts`. */
  readonly contents: string;
  readonly approvalsDir: string;
  /** For the next runner, should this one die; secret, and there while the run is open. */
  readonly kept: string;
  /** The same of shell sessions. */
  readonly sessionsDir: string;
  /** And of where the run stood, to come back to. */
  readonly snapshotsDir: string;
  readonly changeSet: string;
  readonly patch: string;
  readonly base: string;
  /** Of a fork: the changes that were laid over the base before anything ran. */
  readonly beganWith: string;
  /** What the gates found of its candidate, one file each time. */
  readonly verificationsDir: string;
  /** What came of it when its calls were made again, one file each time. */
  readonly replaysDir: string;
  /** What its agents said that they believed, by digest. */
  readonly contextDir: string;
  /** What its environment was, whenever somebody looked. */
  readonly fingerprintsDir: string;
  /** Where the workspace's writable layer is while the run is open. */
  readonly layer: string;

  constructor(id: string, path: string) {
    this.id = id;
    this.path = path;
    this.journal = join(path, 'journal.ndjson');
    this.policy = join(path, 'policy.json');
    this.callsDir = join(path, 'calls');
    this.answers = join(path, 'answers.ndjson');
    this.arguments = join(path, 'arguments.ndjson');
    this.contents = join(path, 'contents.pack');
    this.kept = join(path, 'kept.json');
    this.sessionsDir = join(path, 'sessions');
    this.snapshotsDir = join(path, 'snapshots');
    this.approvalsDir = join(path, 'approvals');
    this.changeSet = join(path, 'change-set.json');
    this.patch = join(path, 'changes.patch');
    this.base = join(path, 'base.json');
    this.beganWith = join(path, 'began-with.json');
    this.verificationsDir = join(path, 'verifications');
    this.replaysDir = join(path, 'replays');
    this.contextDir = join(path, 'context');
    this.fingerprintsDir = join(path, 'fingerprints');
    this.layer = join(path, 'layer');
  }

  /** `calls/<callId>.<suffix>`. Call ids come from outside: one that could leave the directory is refused. */
  callFile(callId: string, suffix: string): string {
    if (!callIdPattern.test(callId)) {
      const name = JSON.stringify(callId.slice(0, 64));
      throw new RunnerError('invalid_request', `call id ${name} must match ${callIdPattern.source}`);
    }
    return join(this.callsDir, `${callId}.${suffix}`);
  }

  /** Nobody is to resume it any more. Absent is fine. */
  async dropKept(): Promise<void> {
    const all = [this.kept, `${this.kept}.new`, this.sessionsDir, this.snapshotsDir];
    await Promise.all(all.map((path) => rm(path, { recursive: true, force: true })));
  }

  /** When the journal was last written, or the directory made. */
  async touchedMs(): Promise<number> {
    const found = await stat(this.journal).catch(() => stat(this.path));
    return found.mtimeMs;
  }
}

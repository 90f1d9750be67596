import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { Runner } from '../src/runner.ts';
import type { Bed } from './bed.ts';

/** A folder with a data directory of its own and a runner on it; everything is gone after `close`. */
export class WorkspaceBed {
  readonly folder: string;
  readonly dataDir: DataDir;
  readonly runner: Runner;
  readonly policy: LoadedPolicy;

  private constructor(folder: string, dataDir: DataDir, runner: Runner, policy: LoadedPolicy) {
    this.folder = folder;
    this.dataDir = dataDir;
    this.runner = runner;
    this.policy = policy;
  }

  static async make(bed: Bed): Promise<WorkspaceBed> {
    const folder = await mkdtemp(join(tmpdir(), 'glovebox-bench-'));
    const dataDir = await DataDir.open(join(folder, 'data'));
    const policy = parsePolicy(policyText(bed.image), 'bench');
    return new WorkspaceBed(folder, dataDir, await Runner.create(bed.engine, dataDir), policy);
  }

  /** Small files, ten in a directory, fifty directories in another. */
  files(name: string, count: number): string {
    const root = join(this.folder, name);
    for (let n = 0; n < count / 10; n++) {
      const directory = join(root, 'src', `p${Math.floor(n / 50)}`, `d${n}`);
      mkdirSync(directory, { recursive: true });
      for (let at = 0; at < 10; at++)
        writeFileSync(join(directory, `f${at}.js`), `// ${n} ${at}\n`.repeat(10 + ((n * at) % 90)));
    }
    return root;
  }

  async close(): Promise<void> {
    await this.runner.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A workspace of 50,000 files, for whoever opens runs on it and changes nothing in it. */
export class LargeBed {
  static readonly files = 50_000;
  readonly place: WorkspaceBed;
  readonly workspace: string;

  private constructor(place: WorkspaceBed) {
    this.place = place;
    this.workspace = place.files('workspace', LargeBed.files);
  }

  static async make(bed: Bed): Promise<LargeBed> {
    return new LargeBed(await WorkspaceBed.make(bed));
  }

  close(): Promise<void> {
    return this.place.close();
  }
}

/** One commit of all that is there. Nothing of git goes on behind it: that would be measured too. */
export async function commitAll(root: string): Promise<void> {
  const env = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
  await execa('git', ['init', '-q', root], { env });
  await execa('git', ['add', '.'], { cwd: root, env });
  await execa(
    'git',
    [
      '-c',
      'gc.auto=0',
      '-c',
      'maintenance.auto=false',
      '-c',
      'user.name=b',
      '-c',
      'user.email=b@invalid',
      'commit',
      '-qm',
      'all',
    ],
    { cwd: root, env },
  );
}

function policyText(image: string): string {
  return `apiVersion: glovebox/v1
kind: Policy
name: bench
images: ["${image}"]
files: { read: ["**"], write: ["**"] }
`;
}

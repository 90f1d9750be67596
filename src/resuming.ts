import { RunnerError } from './errors.ts';
import { WriterLock } from './journal/lock.ts';
import type { RunnerParts } from './opening.ts';
import type { Run } from './run/run.ts';

export interface ResumeOptions {
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

export async function resumeRun({ dataDir }: RunnerParts, id: string): Promise<Run> {
  const dir = dataDir.runDir(id);
  if (await WriterLock.isHeld(dir.journal))
    throw new RunnerError('journal_unavailable', `run ${id} cannot be resumed: a living process writes its journal`);
  throw new RunnerError('sandbox_lost', `run ${id} cannot be resumed: its stream is gone`);
}

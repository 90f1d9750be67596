import { newId } from '../ids.ts';
import type { Outcome } from './outcome.ts';
import type { CallEnd, ExecSpec } from './spec.ts';

/** A command of the runner's own, from start to end, before the agent's first call: its outcome and what it said. */
export async function runInside(
  sandbox: CommandHost,
  spec: ExecSpec,
  saidBytesMax = 1000,
): Promise<{ readonly outcome: Outcome; readonly said: Buffer }> {
  const command = await sandbox.start(newId(), spec);
  const { outcome } = await command.ended;
  const { bytes } = await command.output.read(0, saidBytesMax);
  return { outcome, said: bytes };
}

/** What `Sandbox` has of it. */
export interface CommandHost {
  start(callId: string, spec: ExecSpec): Promise<StartedCommand>;
}

interface StartedCommand {
  readonly ended: Promise<CallEnd>;
  readonly output: { read(offset: number, maxBytes: number): Promise<{ readonly bytes: Buffer }> };
}

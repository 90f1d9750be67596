import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findEndedCall } from './ended-call.ts';
import { ledgerName, readLedger } from './ledger.ts';
import { OutputLog } from './output-log.ts';

/** The output of a call, from its sandbox's directory alone: after a crash, after `close`. Changes nothing on disk. */
export async function findOutput(directory: string, callId: string): Promise<OutputLog | undefined> {
  return (await findEndedCall(directory, callId))?.output;
}

/** The outputs of all calls of a sandbox by call; nothing where its directory has been emptied. */
export function findOutputs(directory: string): ReadonlyMap<string, () => OutputLog> {
  const outputs = new Map<string, () => OutputLog>();
  if (!existsSync(join(directory, ledgerName))) return outputs;
  const ids = new Map<number, string>();
  for (const line of readLedger(directory)) {
    if (line.kind !== 'call' && line.kind !== 'done') continue;
    const { number } = line;
    const inline = line.kind === 'done' ? line.output : undefined;
    if (line.kind === 'call') ids.set(number, line.id);
    const id = ids.get(number);
    if (id !== undefined) outputs.set(id, () => OutputLog.view({ directory, number }, inline));
  }
  return outputs;
}

import { readLedger } from './ledger.ts';
import { OutputLog } from './output-log.ts';
import type { CallEnd } from './spec.ts';

/** The output of a call, from its sandbox's directory alone: after a crash, after `close`. Changes nothing on disk. */
export async function findOutput(directory: string, callId: string): Promise<OutputLog | undefined> {
  return (await findCall(directory, callId))?.output;
}

/** `end` is missing when nobody saw the call end. */
async function findCall(
  directory: string,
  callId: string,
): Promise<{ output: OutputLog; end: CallEnd | undefined } | undefined> {
  const lines = readLedger(directory);
  const call = lines.find((line) => line.kind === 'call' && line.id === callId);
  if (call?.kind !== 'call') return undefined;
  const done = lines.find((line) => line.kind === 'done' && line.number === call.number);
  const end = done?.kind === 'done' ? done : undefined;
  return { output: OutputLog.view({ directory, number: call.number }, end?.output), end: end?.end };
}

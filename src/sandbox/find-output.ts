import { findEndedCall } from './ended-call.ts';
import type { OutputLog } from './output-log.ts';

/** The output of a call, from its sandbox's directory alone: after a crash, after `close`. Changes nothing on disk. */
export async function findOutput(directory: string, callId: string): Promise<OutputLog | undefined> {
  return (await findEndedCall(directory, callId))?.output;
}

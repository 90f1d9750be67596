import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RunnerError } from '../errors.ts';
import { ledgerName, type LedgerLine } from './ledger.ts';
import { OutputLog } from './output-log.ts';
import type { CallEnd } from './spec.ts';

/** A command of which nothing is left but what is on disk; it takes no input, and no signal reaches it. */
export class EndedCall {
  readonly id: string;
  readonly number: number;
  readonly output: OutputLog;
  readonly result: CallEnd;
  readonly ended: Promise<CallEnd>;
  readonly onDisk = true;

  constructor(id: string, number: number, output: OutputLog, end: CallEnd | undefined) {
    this.id = id;
    this.number = number;
    this.output = output;
    this.result = end ?? nobodySaw(output);
    this.ended = Promise.resolve(this.result);
  }

  write(): Promise<void> {
    return Promise.reject(new RunnerError('invalid_request', `call ${this.id} has ended, and takes no input`));
  }

  closeStdin(): Promise<void> {
    return Promise.resolve();
  }

  signal(): void {
    // There is nobody whom it could reach.
  }

  kill(): void {
    // It has ended.
  }

  resize(): void {
    // Its terminal is gone.
  }
}

/**
 * A call from its sandbox's directory alone: after a crash, after `close`, or when it ended long ago. Changes nothing on disk.
 * Undefined where there is none. Of one that runs, only whoever runs it knows more than its output so far.
 */
export async function findEndedCall(directory: string, callId: string): Promise<EndedCall | undefined> {
  const { call, done } = await findLines(directory, callId);
  if (call === undefined) return undefined;
  const output = OutputLog.view({ directory, number: call.number }, done?.output);
  return new EndedCall(callId, call.number, output, done?.end);
}

type Of<Kind extends LedgerLine['kind']> = Extract<LedgerLine, { kind: Kind }>;

/** A ledger may be long, and most of it is about others. */
async function findLines(directory: string, callId: string): Promise<{ call?: Of<'call'>; done?: Of<'done'> }> {
  const text = await readFile(join(directory, ledgerName), 'latin1').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return '';
    throw cause;
  });
  const begins = lineWith(text, `"id":${JSON.stringify(callId)},`, 'call', (line) => line.id === callId);
  if (begins === undefined) return {};
  const { number } = begins;
  const ends = lineWith(text, `"number":${number},`, 'done', (line) => line.number === number);
  return { call: begins, ...(ends === undefined ? {} : { done: ends }) };
}

function lineWith<Kind extends LedgerLine['kind']>(
  text: string,
  mark: string,
  kind: Kind,
  is: (line: Of<Kind>) => boolean,
): Of<Kind> | undefined {
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + 1)) {
    const end = text.indexOf('\n', at);
    if (end < 0) return undefined; // half a line was never said
    const line = JSON.parse(
      Buffer.from(text.slice(text.lastIndexOf('\n', at) + 1, end), 'latin1').toString(),
    ) as LedgerLine;
    if (line.kind === kind && is(line as Of<Kind>)) return line as Of<Kind>;
    at = end;
  }
  return undefined;
}

function nobodySaw(output: OutputLog): CallEnd {
  return {
    outcome: { kind: 'sandbox_lost', reason: 'nobody saw it end' },
    wallMs: 0,
    cpuMs: 0,
    maxRssBytes: 0,
    descendantsAlive: 0,
    killed: 0,
    output: output.totals,
  };
}

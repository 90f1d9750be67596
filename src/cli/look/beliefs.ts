import { open } from 'node:fs/promises';
import type { Command } from 'commander';
import { readContexts } from '../../context/context-report.ts';
import { parseContext, type ContextSnapshot } from '../../context/context-snapshot.ts';
import type { ContextView } from '../../contract/context-view.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { contextLines } from './context-lines.ts';
import type { CliContext } from '../context.ts';
import { findRemoteRun } from '../find-run.ts';
import { atRun, type RunPlace } from '../run-place.ts';
import { openService } from '../service.ts';
import { print, printJson } from '../terminal.ts';

interface Options {
  readonly at?: string;
  readonly attach?: string;
  readonly json?: boolean;
}

const fileBytesMax = 1_048_576;

export function contextCommand(program: Command, context: CliContext): void {
  program
    .command('context')
    .description(
      'who worked in a run and what they believed: now, or when a call was made; or attach what an agent believes',
    )
    .argument('<run>', 'name, id, or the beginning of one')
    .option('--at <call>', 'as it was when this call was let in, or refused')
    .option('--attach <file>', 'a context snapshot (JSON; - reads standard input), for an open run of a service')
    .option('--json', 'machine-readable result on stdout')
    .action(async (name: string, options: Options) => {
      if (options.attach !== undefined) return attach(name, await readContextFile(options.attach), options);
      await atRun(context, name, async (place) => {
        const view = await viewAt(place, options.at);
        if (options.json === true) printJson(view);
        else for (const line of contextLines(view)) print(line);
      });
    });
}

function viewAt(place: RunPlace, call: string | undefined): Promise<ContextView> {
  if (place.kind === 'directory') return readContexts(place.dir, call);
  return place.run.context(call === undefined ? {} : { call });
}

async function attach(name: string, snapshot: ContextSnapshot, options: Options): Promise<void> {
  if (options.at !== undefined)
    throw new RunnerError('invalid_request', '--attach is in force from now on; leave --at out');
  const client = await openService();
  try {
    const run = await findRemoteRun(client, name);
    const attached = await run.attachContext(snapshot);
    if (options.json === true) printJson(attached);
    else print(`context ${attached.number} of run ${run.id} is in force (${attached.digest})`);
  } finally {
    await client.close();
  }
}

/** Throws `invalid_request` for one that cannot be read, or is no snapshot. */
async function readContextFile(path: string): Promise<ContextSnapshot> {
  const text = await readText(path).catch((cause: unknown) => {
    const message = `the context snapshot ${path} cannot be read: ${messageOf(cause)}; name a file of JSON, or - for standard input`;
    throw new RunnerError('invalid_request', message, { cause });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RunnerError('invalid_request', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  return parseContext(value);
}

async function readText(path: string): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  const file = path === '-' ? undefined : await open(path, 'r');
  for await (const piece of (file?.createReadStream() ?? process.stdin) as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > fileBytesMax) throw new Error(`it is longer than ${fileBytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import type { RemoteRun, ToolResult } from '../../client/client.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { findRemoteRun } from '../find-run.ts';
import { openService } from '../service.ts';
import { print, printJson, say } from '../terminal.ts';

interface Json {
  readonly json?: boolean;
}

const runArgument = ['<run>', 'name, id, or the beginning of one'] as const;
const pathArgument = ['<path>', 'relative to the workspace, or absolute'] as const;
const contentBytesMax = 32 * 1024 * 1024;

export function readCommand(program: Command, _context: CliContext): void {
  program
    .command('read')
    .description('a file of an open run, exactly as it is there')
    .argument(...runArgument)
    .argument(...pathArgument)
    .option('--lines <from:to>', 'these lines alone', linesOf)
    .option('--json', 'the result as JSON')
    .action(async (name: string, path: string, options: Json & { lines?: { fromLine: number; toLine?: number } }) => {
      const { lines, json } = options;
      const range = lines === undefined ? {} : { range: lines };
      await inRun(name, async (run) => {
        const result = await run.read(path, { maxBytes: contentBytesMax, ...range });
        if (json === true) return done(result, json);
        if (result.data === null) return done(result, json);
        const { text, base64 } = result.data.content;
        process.stdout.write(base64 === null ? text : Buffer.from(base64, 'base64'));
        if (result.data.truncated) say(`glovebox: cut off after ${contentBytesMax} bytes; glovebox exec reads more`);
        return exitCodes.ok;
      });
    });
}

export function writeCommand(program: Command, _context: CliContext): void {
  program
    .command('write')
    .description('write a whole file of an open run: readers see the old or the new content, never half')
    .argument(...runArgument)
    .argument(...pathArgument)
    .argument('[file]', 'the content; - or nothing reads standard input', '-')
    .option('--if-match <digest>', 'only if the file has this content now')
    .option('--json', 'the result as JSON')
    .action(async (name: string, path: string, file: string, options: Json & { ifMatch?: `sha256:${string}` }) => {
      const content = await contentOf(file);
      const ifMatch = options.ifMatch === undefined ? {} : { ifMatch: options.ifMatch };
      await inRun(name, async (run) => done(await run.write(path, content, ifMatch), options.json));
    });
}

export function editCommand(program: Command, _context: CliContext): void {
  program
    .command('edit')
    .description('replace an exact piece of text in a file of an open run')
    .argument(...runArgument)
    .argument(...pathArgument)
    .requiredOption('--old <text>', 'exact text to find; it has to be there once')
    .requiredOption('--new <text>', 'text to put in its place')
    .option('--all', 'wherever it is')
    .option('--json', 'the result as JSON')
    .action(async (name: string, path: string, options: Json & { old: string; new: string; all?: boolean }) => {
      const { old, new: replacement, all = false, json } = options;
      await inRun(name, async (run) => done(await run.edit(path, old, replacement, { replaceAll: all }), json));
    });
}

export function patchCommand(program: Command, _context: CliContext): void {
  program
    .command('patch')
    .description(
      'apply a patch to files of an open run, all of it or nothing; glovebox diff gives one of the whole run',
    )
    .argument(...runArgument)
    .argument('[file]', 'unified diff, or "*** Begin Patch" form; - or nothing reads standard input', '-')
    .option('--dry-run', 'check and report only')
    .option('--json', 'the result as JSON')
    .action(async (name: string, file: string, options: Json & { dryRun?: boolean }) => {
      const patch = (await contentOf(file)).toString('utf8');
      await inRun(name, async (run) =>
        done(await run.applyPatch(patch, { dryRun: options.dryRun === true }), options.json),
      );
    });
}

async function inRun(name: string, work: (run: RemoteRun) => Promise<number>): Promise<never> {
  const client = await openService();
  try {
    throw new Exit(await work(await findRemoteRun(client, name)));
  } finally {
    await client.close();
  }
}

/** 0 done, 1 an answer of the tool that it could not be (no such file, no match), 125 denied. */
function done(result: Pick<ToolResult, 'ok' | 'text' | 'error'>, json: boolean | undefined): number {
  if (json === true) printJson(result);
  else if (result.ok) print(printable(result.text, { newlines: 'keep' }));
  else say(`glovebox: ${printable(result.text, { newlines: 'keep' })}`);
  if (result.ok) return exitCodes.ok;
  return result.error?.code === 'denied' ? exitCodes.runner : exitCodes.failed;
}

async function contentOf(file: string): Promise<Buffer> {
  try {
    if (file !== '-') return await readFile(file);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > contentBytesMax) throw new Error(`longer than ${contentBytesMax} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (cause) {
    const what = file === '-' ? 'standard input' : file;
    throw new RunnerError('invalid_request', `${what} cannot be read: ${messageOf(cause)}`, { cause });
  }
}

function linesOf(text: string): { fromLine: number; toLine?: number } {
  const [, from = '', colon, to = ''] = /^(\d+)(:(\d*))?$/.exec(text) ?? [];
  const fromLine = Number(from);
  const toLine = colon === undefined ? fromLine : Number(to);
  if (fromLine < 1 || (to !== '' && toLine < fromLine))
    throw new InvalidArgumentError('It wants a line, or the first and the last: 10, 10:20, 10:');
  return colon !== undefined && to === '' ? { fromLine } : { fromLine, toLine };
}

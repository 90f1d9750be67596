import { constants, createReadStream } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import pc from 'picocolors';
import { z } from 'zod';
import { ContextSnapshot } from '../../context/context-snapshot.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { callIdPattern } from '../../ids.ts';
import { printable } from '../../journal/printable.ts';
import type { Run } from '../../runner.ts';
import { pathsOf } from '../../tools/paths.ts';
import { ToolCall } from '../../tools/tool-call.ts';
import type { ToolResult } from '../../tools/tool-result.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { wholeNumber } from '../numbers.ts';
import { inRun, withRunOptions, type RunOptions } from './open-run.ts';
import { closingLines, runSummary } from './summary.ts';
import { durationText, printJson, quote, say } from '../terminal.ts';

/** One line of a session: a tool call, and what a reader should know of it; or what the agent believes from here on. */
const CallLine = z.strictObject({
  callId: z.string().regex(callIdPattern).optional(),
  note: z.string().optional(),
  call: ToolCall,
});
const ContextLine = z.strictObject({ note: z.string().optional(), context: ContextSnapshot });
type PlayLine = z.infer<typeof CallLine> | z.infer<typeof ContextLine>;

const lineBytesMax = 64 * 1024 * 1024;
const formOfLines =
  'a line is {"call": {"tool": "exec", "argv": ["ls"]}}, or {"context": {...}}; examples/demo.jsonl has more';

export function playCommand(program: Command, context: CliContext): void {
  withRunOptions(program.command('play'))
    .description('play a session of tool calls (JSON Lines; - reads standard input) in one sandbox')
    .argument('<file>', 'lines of {"callId"?, "note"?, "call": {"tool": ...}}, or {"note"?, "context": {...}}')
    .option('--lines <n>', 'how much of an output to show', wholeNumber(1), 8)
    .action(async (file: string, options: RunOptions & { lines: number }) => {
      await refuseUnreadable(file);
      const { run, value } = await inRun(context, { ...options, stdinIsTaken: file === '-' }, (opened) =>
        play(opened, file, options),
      );
      if (options.json === true) printJson(await runSummary(context, run));
      else for (const line of await closingLines(context, run)) say(line);
      throw new Exit(value);
    });
}

async function refuseUnreadable(file: string): Promise<void> {
  if (file === '-') return;
  try {
    await access(file, constants.R_OK);
    if ((await stat(file)).isDirectory()) throw new Error('it is a directory');
  } catch (cause) {
    const message = `the session ${file} cannot be read: ${messageOf(cause)}; name a file of JSON Lines, or - for standard input`;
    throw new RunnerError('invalid_request', message, { cause });
  }
}

/** Goes on after a failing call, as an agent would. Exit code 0: every line was performed (whatever it answered). */
async function play(run: Run, file: string, options: RunOptions & { lines: number }): Promise<number> {
  const input = file === '-' ? process.stdin : createReadStream(file);
  let number = 0;
  for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1;
    if (text.trim() === '' || text.startsWith('#')) continue;
    const line = parseLine(text, number, file);
    if (options.json !== true) announce(line);
    if ('context' in line) {
      const attached = await run.attachContext(line.context);
      if (options.json === true) printJson(attached);
      continue;
    }
    const callId = line.callId ?? `${number}`;
    const started = performance.now();
    const result = await run.call(callId, line.call);
    if (options.json === true) printJson(result);
    else show(result, performance.now() - started, options.lines);
  }
  return exitCodes.ok;
}

function parseLine(text: string, number: number, file: string): PlayLine {
  if (text.length > lineBytesMax)
    throw new RunnerError('invalid_request', `${file}:${number}: the line is longer than ${lineBytesMax} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RunnerError('invalid_request', `${file}:${number}: not JSON: ${messageOf(error)}; ${formOfLines}`, {
      cause: error,
    });
  }
  const saysContext = typeof value === 'object' && value !== null && 'context' in value;
  const parsed = (saysContext ? ContextLine : CallLine).safeParse(value);
  if (!parsed.success)
    throw new RunnerError('invalid_request', `${file}:${number}: ${z.prettifyError(parsed.error)}\n${formOfLines}`);
  return parsed.data;
}

function announce(line: PlayLine): void {
  say('');
  if (line.note !== undefined) say(pc.bold(line.note));
  if ('context' in line) {
    say(`${pc.cyan('▸')} ${pc.cyan('context')} ${printable(line.context.summary).slice(0, 150)}`);
    return;
  }
  say(`${pc.cyan('▸')} ${pc.cyan(line.call.tool)} ${printable(describe(line.call)).slice(0, 150)}`);
}

function describe(call: ToolCall): string {
  if (call.tool === 'exec')
    return call.argv === undefined ? (call.script ?? '').trim().split('\n').join('; ') : call.argv.join(' ');
  if ('pattern' in call) return call.pattern;
  if ('patch' in call) return pathsOf(call).writes.join(' ');
  if ('path' in call && typeof call.path === 'string') return call.path;
  if ('callId' in call && typeof call.callId === 'string') return call.callId;
  return '';
}

function show(result: ToolResult, ms: number, lines: number): void {
  if (result.text.trim() !== '') say(quote(result.text, lines));
  say(`    ${verdictOf(result)} ${pc.dim(durationText(ms))}`);
}

function verdictOf(result: ToolResult): string {
  if (result.error !== null) return pc.yellow(result.error.code);
  if (result.data?.kind !== 'exec') return pc.green('done');
  const { outcome, state } = result.data;
  if (state === 'running' || outcome === null) return pc.blue('still running');
  if (outcome.kind === 'exited') return outcome.code === 0 ? pc.green('exit 0') : pc.yellow(`exit ${outcome.code}`);
  return pc.magenta(outcome.kind);
}

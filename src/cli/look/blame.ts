import type { Command } from 'commander';
import { blameFile, type BlamedAuthor, type BlamedCall, type BlameReport } from '../../context/blame-report.ts';
import { printable } from '../../journal/printable.ts';
import type { CliContext } from '../context.ts';
import { wholeNumber } from '../numbers.ts';
import { atRun } from '../run-place.ts';
import { print, printJson, table } from '../terminal.ts';

interface Options {
  readonly line?: number;
  readonly json?: boolean;
}

export function blameCommand(program: Command, context: CliContext): void {
  program
    .command('blame')
    .description(
      'who wrote each line of a file of a run: the call, its model, what its agent believed, who approved it',
    )
    .argument('<run>', 'name, id, or the beginning of one; open or closed')
    .argument('<file[:line]>', 'path in the workspace')
    .option('--line <number>', 'this line, of a file whose name may end in a colon and a number', wholeNumber(1))
    .option('--json', 'as the service gives it')
    .action(async (id: string, file: string, options: Options) => {
      const asked = askedOf(file, options.line);
      await atRun(context, id, async (place) => {
        const report =
          place.kind === 'directory'
            ? await blameFile(await context.openDataDir(), place.dir, asked)
            : await place.run.blame(asked.path, asked);
        if (options.json === true) printJson(report);
        else print(asked.line === undefined ? listing(report) : story(report));
      });
    });
}

function askedOf(file: string, line: number | undefined): { readonly path: string; readonly line?: number } {
  if (line !== undefined) return { path: file, line };
  const [, path, number] = /^(.+):([1-9][0-9]{0,8})$/s.exec(file) ?? [];
  return path === undefined ? { path: file } : { path, line: Number(number) };
}

/** A row for each line, as `git blame` has it. */
function listing({ told, authors, path }: BlameReport): string {
  if (told.kind === 'whole') {
    const why = { binary: 'it is no text', too_large: 'it is too large', not_kept: 'its content was not kept' }[
      told.why
    ];
    return [
      `${printable(path)}: lines cannot be told apart, ${why}; last written by`,
      ...paragraph(authors[told.author]),
    ].join('\n');
  }
  const rows = told.spans.flatMap(({ first, lines, authors: by }) =>
    lines.map((line, at) => [
      by.map((place) => label(authors[place])).join(' or '),
      `${first + at}`,
      `│ ${printable(line)}`,
    ]),
  );
  return rows.length === 0 ? `${printable(path)} is empty` : table(rows);
}

function label(author: BlamedAuthor | undefined): string {
  switch (author?.kind) {
    case 'call':
      return `${callLabel(author.call)}${author.late ? ' (left running)' : ''}`;
    case 'between':
      return `${printable(author.from.callId)}..${printable(author.to.callId)} (one of ${author.calls})`;
    case 'base':
      return author.commit === undefined ? 'base' : `base ${author.commit.slice(0, 10)}`;
    case 'nobody':
      return 'no call';
    case 'run':
      return `run ${author.run}`;
    case undefined:
      return '';
  }
}

function callLabel({ callId, tool, model, lane }: BlamedCall): string {
  return printable([callId, tool, model, lane].filter((part) => part !== undefined && part !== '').join(' '));
}

/** All that is known of one line. */
function story({ told, authors, path, run }: BlameReport): string {
  if (told.kind === 'whole') return listing({ told, authors, path, run });
  return told.spans
    .flatMap(({ first, lines, authors: by }) => [
      `${printable(path)}:${first} │ ${printable(lines[0] ?? '')}`,
      ...(by.length > 1 ? ['one of these wrote it:'] : []),
      ...by.flatMap((place) => paragraph(authors[place])),
    ])
    .join('\n');
}

function paragraph(author: BlamedAuthor | undefined): readonly string[] {
  switch (author?.kind) {
    case 'call': {
      const late = author.late ? ['  when       the command had ended: a process that it left wrote it'] : [];
      return [...callLines(author.call), ...late];
    }
    case 'between':
      return [
        `  written by one of ${author.calls} calls, between which nobody looked; the first and the last:`,
        ...callLines(author.from),
        ...callLines(author.to),
      ];
    case 'nobody':
      return [`  written while no call ran in run ${author.run}`];
    case 'run':
      return [`  came from run ${author.run}, of which there are no records any more`];
    default:
      return [`  ${label(author)}`];
  }
}

function callLines({
  run,
  callId,
  time,
  tool,
  what,
  by,
  claims,
  model,
  lane,
  belief,
  approvals,
}: BlamedCall): string[] {
  const line = (name: string, text: string | undefined): string[] =>
    text === undefined || text === '' ? [] : [`  ${name.padEnd(10)} ${printable(text)}`];
  return [
    ...line('call', `${callId} of run ${run}${time === '' ? '' : `, ${time}`}`),
    ...line('did', `${tool} ${what}`),
    ...line('for', by),
    ...line('model', model),
    ...line('lane', lane),
    ...line('claimed', claims),
    ...line('believed', belief && `snapshot ${belief.number} (version ${belief.version}): ${belief.summary}`),
    ...approvals.flatMap(({ category, by: who }) => line('approved', `${category} by ${who.join(', ')}`)),
  ];
}

import { Option, type Command } from 'commander';
import type { RunView } from '../../client/client.ts';
import type { RunDir } from '../../data-dir/data-dir.ts';
import { readEnds } from '../../journal/ends.ts';
import { readEntries } from '../../journal/read.ts';
import type { CliContext } from '../context.ts';
import { wholeNumber } from '../numbers.ts';
import { openService, servicePlace } from '../service.ts';
import { print, printJson, table } from '../terminal.ts';

interface Options {
  readonly number: number;
  readonly all: boolean;
  readonly json?: boolean;
}

/** One run, as `--json` prints it. */
export interface RunRow {
  readonly run: string;
  readonly name: string | null;
  readonly opened: string;
  readonly state: string;
  readonly policy: string;
  /** Of one that was made to verify another: `RUN/GATE/ATTEMPT`. */
  readonly verifies?: string;
  readonly replays?: string;
  /** null where a service does not say. */
  readonly calls: number | null;
}

export function runsCommand(program: Command, context: CliContext): void {
  listing(program.command('runs'), context, true).description('the runs that there are and were, newest first');
}

/** The same list of what is open. */
export function psCommand(program: Command, context: CliContext): void {
  listing(program.command('ps'), context, false).description('the runs that are open, newest first');
}

function listing(command: Command, context: CliContext, all: boolean): Command {
  return command
    .option('-n, --number <n>', 'how many', wholeNumber(1), 20)
    .addOption(new Option('-a, --all', 'those that are closed too').default(all))
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const rows = await listRuns(context, options);
      if (options.json === true) printJson(rows);
      else if (rows.length > 0) print(tableOf(rows));
      else if (options.all) print('no runs yet; glovebox run -- echo hello opens one');
      else print('no run is open; glovebox open opens one, glovebox runs lists those that were');
    });
}

/** Newest first, from the service that is given, else from the data directory. */
export function listRuns(context: CliContext, options: Pick<Options, 'number' | 'all'>): Promise<readonly RunRow[]> {
  return servicePlace().kind === 'given' ? ofService(options) : ofDirectory(context, options);
}

async function ofService({ number, all }: Pick<Options, 'number' | 'all'>): Promise<readonly RunRow[]> {
  const client = await openService();
  try {
    const { runs } = await client.runs.list({ limit: Math.min(number, 500), ...(all ? {} : { state: 'open' }) });
    return runs.map(rowOfView);
  } finally {
    await client.close();
  }
}

function rowOfView({ id, name, openedAt, state, outcome, policy }: RunView): RunRow {
  return { run: id, name, opened: openedAt, state: outcome ?? state, policy, calls: null };
}

/** Whoever opened them: this user's service, or a command line of its own. */
async function ofDirectory(
  context: CliContext,
  { number, all }: Pick<Options, 'number' | 'all'>,
): Promise<readonly RunRow[]> {
  const dirs = await (await context.openDataDir()).listRuns();
  const rows: RunRow[] = [];
  for (const dir of dirs) {
    if (rows.length === number) break;
    const isOpen = async (): Promise<boolean> =>
      (await readEnds(dir.journal).catch(() => undefined))?.closed === undefined;
    if (all || (await isOpen())) rows.push(await rowOfJournal(dir));
  }
  return rows;
}

async function rowOfJournal({ id: run, journal }: RunDir): Promise<RunRow> {
  const row = { run, name: null as string | null, opened: '', state: 'open', policy: '', calls: 0 };
  try {
    for await (const entry of readEntries(journal)) {
      if (entry.type === 'run.opened') {
        const { policy, by, verifies: of, replays: again } = entry.data;
        const verifies = of === undefined ? {} : { verifies: `${of.run}/${of.gate}/${of.attempt}` };
        const replays = again === undefined ? {} : { replays: again.run };
        Object.assign(row, { opened: entry.at, policy: policy.name, name: by?.name ?? null, ...verifies, ...replays });
      }
      if (entry.type === 'call.intended') row.calls += 1;
      if (entry.type === 'run.closed') row.state = entry.data.outcome;
    }
  } catch {
    row.state = 'broken';
  }
  return row;
}

function tableOf(rows: readonly RunRow[]): string {
  return table([
    ['RUN', 'NAME', 'OPENED', 'STATE', 'POLICY', 'CALLS'],
    ...rows.map((row) => [
      row.run,
      row.name ?? madeFor(row) ?? '-',
      row.opened,
      row.state,
      row.policy,
      `${row.calls ?? '-'}`,
    ]),
  ]);
}

function madeFor({ verifies, replays }: RunRow): string | undefined {
  if (replays !== undefined) return `(replay of ${replays.slice(0, 12)})`;
  const [run = '', gate = ''] = verifies?.split('/') ?? [];
  return verifies === undefined ? undefined : `(${gate} of ${run.slice(0, 12)})`;
}

import type { Command } from 'commander';
import type { RemoteRun } from '../../client/client.ts';
import { DoorClient } from '../../control/door-client.ts';
import type { RunState } from '../../control/controlled.ts';
import type { DataDir } from '../../data-dir/data-dir.ts';
import { isEnvironmentName } from '../../environment/environment.ts';
import { isBuilt } from '../../environment/lock.ts';
import { findRecord } from '../../environment/record.ts';
import { RunnerError } from '../../errors.ts';
import type { Entry } from '../../journal/entry.ts';
import { followEntries, readEntries } from '../../journal/read.ts';
import type { CliContext } from '../context.ts';
import { egressHeading, egressLine, EgressRows, egressTable, type EgressRow } from './egress-rows.ts';
import { entriesAt } from './log.ts';
import { atRun, inOpenRun, type RunPlace } from '../run-place.ts';
import { print, printJson, say } from '../terminal.ts';

interface Options {
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly without?: readonly string[];
  readonly revoke?: readonly string[];
}

export function egressCommand(program: Command, context: CliContext): void {
  program
    .command('egress')
    .description('what a run asked of the network, what was decided, how it ended; or take something away from it')
    .argument('<run>', 'name, id, or the beginning of one; or the name of an environment, for its last setup')
    .option('-f, --follow', 'go on as it comes, until the run is closed')
    .option(
      '--without <rule...>',
      'take these profiles, rules or upstreams from the open run; what they let through is cut',
    )
    .option('--revoke <credential...>', 'send nothing with these credentials any more; what carries them is cut')
    .option('--json', 'a line of JSON for each; after --without and --revoke how the run stands')
    .action(async (id: string, options: Options) => {
      const takes = options.without !== undefined || options.revoke !== undefined;
      if (isEnvironmentName(id)) {
        const journal = await recordOf(await context.openDataDir(), id, takes);
        return report(id, options.follow === true ? followEntries(journal) : readEntries(journal), options);
      }
      if (takes) await inOpenRun(context, id, (place) => takeAway(place, options));
      else await atRun(context, id, (place) => report(id, entriesAt(place, options.follow === true), options));
    });
}

async function report(id: string, entries: AsyncIterable<Entry>, options: Options): Promise<void> {
  await (options.follow === true ? follow(id, entries, options) : show(entries, options));
}

async function recordOf({ path }: DataDir, name: string, takes: boolean): Promise<string> {
  if (takes)
    throw new RunnerError('invalid_request', `${name} is an environment; --without and --revoke take from open runs`);
  const record = await findRecord(path, name);
  if (record !== undefined) return record;
  const built = await isBuilt(path, name);
  throw new RunnerError(
    'run_not_found',
    `there is no record of ${name}: ${built ? 'its policy let setup reach nothing when it was built' : 'it was not built here; glovebox env ls lists those that were'}`,
  );
}

async function show(entries: AsyncIterable<Entry>, options: Options): Promise<void> {
  const rows: EgressRow[] = [];
  const joined = new EgressRows();
  for await (const entry of entries) {
    const row = joined.push(entry);
    if (row !== undefined) rows.push(row);
    if (entry.type === 'egress.counted' && options.json !== true) say(countedText(entry.data));
  }
  const all = [...rows, ...joined.rest].sort((a, b) => a.id - b.id);
  if (options.json === true) for (const row of all) printJson(row);
  else if (all.length === 0) print('nothing was asked of the network');
  else print(egressTable(all));
}

function countedText({ count, host }: { readonly count: number; readonly host: string }): string {
  return `glovebox: ${count} more were refused (${host === '*' ? 'many hosts' : JSON.stringify(host)}), too many for entries of their own`;
}

async function follow(id: string, entries: AsyncIterable<Entry>, options: Options): Promise<void> {
  const joined = new EgressRows();
  let closed = false;
  if (options.json !== true) print(egressHeading());
  for await (const entry of entries) {
    const row = joined.push(entry);
    if (row !== undefined && options.json === true) printJson(row);
    else if (row !== undefined) print(egressLine(row));
    closed = entry.type === 'run.closed';
  }
  if (!closed) say(`glovebox: the runner of ${id} is gone; glovebox gc closes the run`);
}

/** Revoking first: it is what people are in a hurry for. */
async function takeAway(place: RunPlace, { without, revoke = [], json }: Options): Promise<void> {
  const door = place.kind === 'directory' ? await DoorClient.open(place.dir) : doorOf(place.run);
  try {
    let state: RunState | undefined;
    for (const credential of revoke) state = await door.revoke(credential);
    if (without !== undefined) state = await door.narrow(without);
    state ??= await door.state();
    if (json === true) printJson(state);
    else for (const line of stateLines(state)) print(line);
  } finally {
    await door.close();
  }
}

function doorOf(run: RemoteRun): Pick<DoorClient, 'revoke' | 'narrow' | 'state' | 'close'> {
  return {
    revoke: (name) => run.revokeCredential(name),
    narrow: (without) => run.narrowEgress(without),
    state: () => run.reach(),
    close: async () => undefined,
  };
}

function stateLines({ egress, credentials }: RunState): readonly string[] {
  const list = (names: readonly string[]): string => (names.length === 0 ? 'nothing' : names.join(', '));
  const usable = credentials.names.filter((name) => !credentials.revoked.includes(name));
  return [
    `rules:       ${list(egress.rules)}${egress.without.length === 0 ? '' : `; taken away: ${list(egress.without)}`}`,
    `credentials: ${list(usable)}${credentials.revoked.length === 0 ? '' : `; revoked: ${list(credentials.revoked)}`}`,
  ];
}

import { Option, type Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import { scopes, type KeyRow, type Scope } from '../../store/key-row.ts';
import { Store } from '../../store/store.ts';
import type { CliContext } from '../context.ts';
import { addQuotaOptions, expiryOf, quotaOf, quotaText, type QuotaOptions } from './quota-options.ts';
import { print, printJson, say, table } from '../terminal.ts';

/** Keys of the service on this data directory, by its owner; they hold at once, also while it runs. */
export function keyCommand(program: Command, context: CliContext): void {
  const key = program.command('key').description('keys to the service on this data directory; glovebox serve');
  const create = key
    .command('create')
    .description('make a key; its secret is printed, this once')
    .requiredOption('-t, --team <name>', 'whose runs it sees')
    .requiredOption(
      '-i, --identity <name>',
      'the person or program behind it; nobody approves what it asked for itself',
    )
    .addOption(
      new Option('-s, --scope <scope...>', 'what it may be used for')
        .choices(scopes)
        .default(['run:open', 'call', 'read']),
    )
    .option('-p, --policy <name...>', 'policies that it may open runs with')
    .option('--any-policy', 'every policy, and texts of its own')
    .option('--expires <time>', 'after which it is none, such as 12h or 90d; or never', '90d');
  addQuotaOptions(create)
    .option('--json', 'as JSON')
    .action((options: CreateOptions) => withStore(context, (store) => makeKey(store, options)));
  key
    .command('ls')
    .description('the keys, oldest first; secrets are not kept and cannot be shown')
    .option('-t, --team <name>', 'only of this team')
    .option('--json', 'as JSON')
    .action((options: { team?: string; json?: boolean }) => withStore(context, (store) => list(store, options)));
  key
    .command('revoke <key...>')
    .description('from now on they are none, by id or the beginning of one')
    .option('--json', 'those that were revoked, as JSON')
    .action((names: string[], { json }: { json?: boolean }) =>
      withStore(context, (store) => {
        const revoked = names.map((name) => revoke(store, name));
        if (json === true) return printJson(revoked);
        for (const { id, identity, team, revokedAt } of revoked)
          print(`revoked ${id} of ${identity}, team ${team} (${revokedAt ?? ''})`);
      }),
    );
}

interface CreateOptions extends QuotaOptions {
  readonly team: string;
  readonly identity: string;
  readonly scope: readonly Scope[];
  readonly policy?: readonly string[];
  readonly anyPolicy?: boolean;
  readonly expires: string;
  readonly json?: boolean;
}

export async function withStore(context: CliContext, work: (store: Store) => void): Promise<void> {
  const store = Store.open((await context.openDataDir()).path);
  try {
    work(store);
  } finally {
    store.close();
  }
}

function makeKey(store: Store, options: CreateOptions): void {
  const { team, identity, scope, policy = [], anyPolicy } = options;
  if (anyPolicy !== true && policy.length === 0 && scope.includes('run:open'))
    throw new RunnerError('invalid_request', 'a key that opens runs needs --policy NAME, or --any-policy');
  const inMs = expiryOf(options.expires);
  const { row, secret } = store.keys.create({
    team,
    identity,
    scopes: [...scope],
    policies: anyPolicy === true ? 'any' : [...policy],
    quota: quotaOf(options),
    expiresAt: inMs === undefined ? null : new Date(Date.now() + inMs).toISOString(),
  });
  if (options.json === true) return printJson({ ...row, secret });
  say(`key ${row.id} of ${identity}, team ${team}: ${row.scopes.join(', ')}; ${endOf(row)}`);
  say('Its secret, which is shown this once: set GLOVEBOX_KEY to it.');
  print(secret);
}

function list(store: Store, { team, json }: { team?: string; json?: boolean }): void {
  const keys = store.keys.list(team);
  if (json === true) return printJson(keys);
  if (keys.length === 0) return print('no keys; glovebox key create makes one');
  const rows = keys.map((row) => [
    row.id,
    row.team,
    row.identity,
    row.scopes.join(','),
    row.policies === 'any' ? 'any' : row.policies.join(','),
    endOf(row),
    quotaText(row.quota),
  ]);
  print(table([['KEY', 'TEAM', 'IDENTITY', 'SCOPES', 'POLICIES', 'HOLDS', 'QUOTA'], ...rows]));
}

function endOf({ revokedAt, expiresAt }: KeyRow): string {
  if (revokedAt !== null) return `revoked ${revokedAt}`;
  if (expiresAt === null) return 'for ever';
  return `${Date.parse(expiresAt) > Date.now() ? 'until' : 'expired'} ${expiresAt}`;
}

function revoke(store: Store, name: string): KeyRow {
  const found = name === '' ? [] : store.keys.list().filter(({ id }) => id.startsWith(name));
  const [one] = found;
  if (one === undefined || found.length > 1)
    throw new RunnerError(
      'invalid_request',
      `${JSON.stringify(name.slice(0, 64))} fits ${found.length} keys; glovebox key ls lists them`,
    );
  return store.keys.revoke(one.id) ?? one;
}

import { Option, type Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import { scopes, type KeyRow, type Scope } from '../../store/key-row.ts';
import type { CliContext } from '../context.ts';
import { withKeys, type KeyBook } from './key-book.ts';
import { addQuotaOptions, expiryOf, quotaOf, quotaText, type QuotaOptions } from './quota-options.ts';
import { print, printJson, say, table } from '../terminal.ts';

/**
 * Keys of the service that is given, as far as the key in use reaches; else of this data directory, by its owner. They hold at
 * once, also while the service runs.
 */
export function keyCommand(program: Command, context: CliContext): void {
  const key = program
    .command('key')
    .description(
      'keys to a service: those of this data directory; with GLOVEBOX_URL those of the own team there, by a key with admin',
    );
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
    .option(
      '--expires <time>',
      'after which it is none, such as 12h or 90d; or never (default 90d; at a service no longer than the key in use)',
    );
  addQuotaOptions(create)
    .option('--json', 'as JSON')
    .action((options: CreateOptions) => withKeys(context, (keys) => makeKey(keys, options)));
  key
    .command('ls')
    .description('the keys, oldest first; secrets are not kept and cannot be shown')
    .option('-t, --team <name>', 'only of this team')
    .option('--json', 'as JSON')
    .action((options: { team?: string; json?: boolean }) => withKeys(context, (keys) => list(keys, options)));
  key
    .command('revoke <key...>')
    .description('from now on they are none, by id or the beginning of one')
    .option('--json', 'those that were revoked, as JSON')
    .action((names: string[], { json }: { json?: boolean }) =>
      withKeys(context, async (keys) => {
        const all = await keys.list();
        const revoked: KeyRow[] = [];
        for (const { id } of names.map((name) => keyOf(all, name))) revoked.push(await keys.revoke(id));
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
  readonly expires?: string;
  readonly json?: boolean;
}

async function makeKey(keys: KeyBook, options: CreateOptions): Promise<void> {
  const { team, identity, scope, policy = [], anyPolicy } = options;
  if (anyPolicy !== true && policy.length === 0 && scope.includes('run:open'))
    throw new RunnerError('invalid_request', 'a key that opens runs needs --policy NAME, or --any-policy');
  const { key, secret } = await keys.create({
    team,
    identity,
    scopes: [...scope],
    policies: anyPolicy === true ? 'any' : [...policy],
    quota: quotaOf(options),
    expiresAt: options.expires === undefined ? await usualEnd(keys) : endAfter(options.expires),
  });
  if (options.json === true) return printJson({ ...key, secret });
  say(`key ${key.id} of ${identity}, team ${team}: ${key.scopes.join(', ')}; ${endOf(key)}`);
  say('Its secret, which is shown this once: set GLOVEBOX_KEY to it.');
  print(secret);
}

function endAfter(text: string): string | null {
  const inMs = expiryOf(text);
  return inMs === undefined ? null : new Date(Date.now() + inMs).toISOString();
}

async function usualEnd(keys: KeyBook): Promise<string> {
  const end = new Date(Date.now() + usualMs).toISOString();
  const own = await keys.ownEnd();
  return own !== null && Date.parse(own) < Date.parse(end) ? own : end;
}

const usualMs = 90 * 86_400_000;

async function list(keys: KeyBook, { team, json }: { team?: string; json?: boolean }): Promise<void> {
  const found = (await keys.list()).filter((key) => team === undefined || key.team === team);
  if (json === true) return printJson(found);
  if (found.length === 0) return print('no keys; glovebox key create makes one');
  const rows = found.map((row) => [
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

/** Before any is revoked: of names of which one is none, nothing is done. */
function keyOf(all: readonly KeyRow[], name: string): KeyRow {
  const found = name === '' ? [] : all.filter(({ id }) => id.startsWith(name));
  const [one] = found;
  if (one !== undefined && found.length === 1) return one;
  throw new RunnerError(
    'invalid_request',
    `${JSON.stringify(name.slice(0, 64))} fits ${found.length} keys; glovebox key ls lists them`,
  );
}

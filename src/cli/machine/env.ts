import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import { RunnerError, messageOf } from '../../errors.ts';
import { removeEnvironment } from '../../environment/build.ts';
import { listEnvironmentLocks, type EnvironmentLock } from '../../environment/lock.ts';
import type { SetupAccess } from '../../environment/setup-script.ts';
import { loadPolicyFor } from '../../policy/layers/repository-layer.ts';
import { Runner } from '../../runner.ts';
import { printable } from '../../journal/printable.ts';
import type { CliContext } from '../context.ts';
import { Interruption } from '../interruption.ts';
import { bytesText, durationText, print, printJson, say, table } from '../terminal.ts';

export function envCommand(program: Command, context: CliContext): void {
  const env = program
    .command('env')
    .description('environments: dependencies installed once into an image of their own');
  env
    .command('build')
    .description("build what a policy's environment says for a directory; cheap when it is built already")
    .requiredOption('-p, --policy <file>', 'policy with an environment')
    .option('-c, --class <name>', 'task class, where the policy has classes')
    .option('-w, --workspace <dir>', 'directory that environment.files are taken from')
    .option(
      '--setup-network',
      'give the setup commands a bridge network, which reaches everything; for policies without environment.egress',
    )
    .option('--setup-env <name=value...>', 'variables of the setup commands alone: a proxy, a mirror')
    .option('--setup-ca <file>', 'certificates (PEM) that the setup commands trust, instead of the usual ones')
    .option('--rebuild', 'even when it is built already')
    .option('--json', 'as JSON')
    .action((options: BuildOptions) => build(options, context));
  env
    .command('ls')
    .description('the environments, newest first')
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) => list(options, context));
  env
    .command('rm')
    .description('remove environments; the next build makes them anew')
    .argument('<names...>', 'as env ls names them')
    .option('--json', 'the names of those that were removed, as JSON')
    .action((names: string[], options: { json?: boolean }) => remove(names, options, context));
}

interface BuildOptions {
  readonly policy: string;
  readonly class?: string;
  readonly workspace?: string;
  readonly setupNetwork?: boolean;
  readonly setupEnv?: readonly string[];
  readonly setupCa?: string;
  readonly rebuild?: boolean;
  readonly json?: boolean;
}

async function build(options: BuildOptions, context: CliContext): Promise<void> {
  const { policy } = await loadPolicyFor(options.policy, options.workspace, { taskClass: options.class });
  const startedMs = performance.now();
  const [engine, dataDir, reach] = await Promise.all([context.connect(), context.openDataDir(), context.reach()]);
  const runner = await Runner.create(engine, dataDir, reach);
  const interruption = new Interruption('the build');
  try {
    const { lock, upToDate } = await runner.buildEnvironment(policy, options.workspace, {
      network: options.setupNetwork === true,
      ...(await accessOf(options)),
      rebuild: options.rebuild === true,
      signal: interruption.signal,
      onProgress: (line) => say(printable(line)),
    });
    if (options.json === true) printJson({ ...lock, upToDate });
    else if (upToDate) print(`${lock.name} is up to date  ${lock.id.slice(0, 19)}`);
    else {
      const { egress } = lock;
      if (egress !== undefined)
        say(
          `reached ${egress.reached.join(', ') || 'nothing'}; refused ${egress.refused}: glovebox egress ${lock.name}`,
        );
      print(
        `${pc.green('built')} ${lock.name}  ${lock.id.slice(0, 19)}  ${bytesText(lock.bytes)}  ${durationText(performance.now() - startedMs)}`,
      );
    }
  } finally {
    await runner.close();
    interruption.end();
  }
}

async function accessOf({ setupEnv, setupCa }: BuildOptions): Promise<{ access?: SetupAccess }> {
  if (setupEnv === undefined && setupCa === undefined) return {};
  const env: Record<string, string> = {};
  for (const variable of setupEnv ?? []) {
    const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=([^\0]*)$/s.exec(variable) ?? [];
    if (name === undefined || value === undefined)
      throw new RunnerError('invalid_request', `--setup-env wants NAME=VALUE, not ${JSON.stringify(variable)}`);
    env[name] = value;
  }
  if (setupCa === undefined) return { access: { env } };
  const ca = await readFile(setupCa).catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `--setup-ca ${setupCa}: ${messageOf(cause)}`, { cause });
  });
  return { access: { env, ca } };
}

async function list(options: { json?: boolean }, context: CliContext): Promise<void> {
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  const rows = await Promise.all(
    (await listEnvironmentLocks(dataDir.path)).map(async (lock) => ({
      ...lock,
      state: (await engine.findImage(lock.id)) === undefined ? 'absent' : 'ready',
    })),
  );
  if (options.json === true) return printJson(rows);
  if (rows.length === 0) return print('no environments yet; glovebox env build -p POLICY -w DIR makes one');
  print(
    table([
      ['ENVIRONMENT', 'STATE', 'BASE', 'SIZE', 'NETWORK', 'PACKAGES', 'BUILT'],
      ...rows.map(({ name, state, base, bytes, network, egress, packages, builtAt }) => [
        name,
        state,
        base.reference,
        bytesText(bytes),
        networkText(network, egress),
        `${packages.debian.length} Debian, ${packages.npm.length} npm, ${packages.python.length} Python`,
        builtAt,
      ]),
    ]),
  );
}

function networkText(network: boolean, egress: EnvironmentLock['egress']): string {
  if (network) return 'all of it';
  if (egress === undefined) return 'none';
  const [first, ...others] = egress.reached;
  if (first === undefined) return 'nothing reached';
  return others.length === 0 ? first : `${first} and ${others.length} more`;
}

async function remove(names: readonly string[], { json }: { json?: boolean }, context: CliContext): Promise<void> {
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  const locks = await listEnvironmentLocks(dataDir.path);
  for (const name of names) {
    const lock = locks.find((known) => known.name === name);
    if (lock === undefined) {
      const known = locks.map((other) => other.name).join(', ') || 'none';
      throw new RunnerError('image_not_found', `no environment ${JSON.stringify(name)}; there are: ${known}`);
    }
    await removeEnvironment(engine, dataDir.path, lock);
    if (json !== true) print(`removed ${name}`);
  }
  if (json === true) printJson(names);
}

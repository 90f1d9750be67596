import type { Command } from 'commander';
import { loadConfig, usualPlaces } from '../../config.ts';
import type { Check } from '../../engine/check.ts';
import { diagnose, diagnosisLines } from '../../engine/doctor.ts';
import { messageOf } from '../../errors.ts';
import { imageNames } from '../../images/recipe.ts';
import { supervisorPath } from '../../sandbox/supervisor-binary.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { print, printJson } from '../terminal.ts';

export function doctorCommand(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('what this machine and its engine are, what they can enforce, what is missing and how to get it')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const engine = await context
        .connect()
        .catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
      const architecture = engine instanceof Error ? process.arch : (await engine.describe()).architecture;
      const images = (await imageNames()).map((name) => `glovebox/${name}:latest`);
      const found = await diagnose(engine, { supervisorPath: supervisorPath(architecture), images });
      const configuration = await lookAtConfiguration();
      const diagnosis = {
        ...found,
        usable: found.usable && configuration.ok !== 'no',
        checks: [...found.checks, configuration],
      };
      if (options.json === true) printJson(diagnosis);
      else for (const line of diagnosisLines(diagnosis)) print(line);
      throw new Exit(diagnosis.usable ? exitCodes.ok : exitCodes.failed);
    });
}

async function lookAtConfiguration(): Promise<Check> {
  const check = { id: 'configuration', means: 'Says how runs reach the network, and which programs give credentials.' };
  try {
    const { source, egress, credentials } = await loadConfig();
    if (source === undefined)
      return { ...check, ok: 'yes', found: `none (looked at ${usualPlaces().join(', ')})`, remedy: '' };
    const said = [
      ...(egress.proxy === undefined ? [] : [`a proxy (${new URL(egress.proxy).host})`]),
      ...(egress.caFiles.length === 0 ? [] : [`certificates in ${egress.caFiles.join(', ')}`]),
      ...(egress.resolvers.length === 0 ? [] : [`name servers ${egress.resolvers.join(', ')}`]),
      ...listed('addresses of', Object.keys(egress.hosts)),
      ...listed('for policies that are sent', egress.sentPolicies),
      ...listed('commands', Object.keys(credentials.commands)),
    ];
    return {
      ...check,
      ok: 'yes',
      found: `${source}: ${said.length === 0 ? 'says nothing' : said.join('; ')}`,
      remedy: '',
    };
  } catch (error) {
    const means = 'It does not load: no run is opened.';
    return {
      ...check,
      ok: 'no',
      found: messageOf(error),
      means,
      remedy: 'Mend what is named; docs/configuration.md lists the keys.',
    };
  }
}

function listed(what: string, names: readonly string[]): readonly string[] {
  return names.length === 0 ? [] : [`${what} ${names.join(', ')}`];
}

import type { Command } from 'commander';
import { diagnose, diagnosisLines } from '../engine/doctor.ts';
import { imageNames } from '../images/recipe.ts';
import { supervisorPath } from '../sandbox/supervisor-binary.ts';
import { Exit, exitCodes, type CliContext } from './context.ts';
import { print, printJson } from './terminal.ts';

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
      const diagnosis = await diagnose(engine, { supervisorPath: supervisorPath(architecture), images });
      if (options.json === true) printJson(diagnosis);
      else for (const line of diagnosisLines(diagnosis)) print(line);
      throw new Exit(diagnosis.usable ? exitCodes.ok : exitCodes.failed);
    });
}

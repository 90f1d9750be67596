import type { Command } from 'commander';
import { defaultPolicy, loadPolicy } from '../policy/policy.ts';
import { Runner, type Run } from '../runner.ts';
import type { CliContext } from './context.ts';
import { say } from './terminal.ts';

/** Options that every command which opens a run takes. */
export interface RunOptions {
  readonly policy?: string;
  readonly workspace?: string;
  readonly image?: string;
  readonly intent?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function withRunOptions(command: Command): Command {
  return command
    .option('-p, --policy <file>', 'policy file (default: the shipped "default" policy)')
    .option('-w, --workspace <dir>', 'directory whose allowed files are copied in (default: an empty workspace)')
    .option('-i, --image <image>', "one of the policy's images")
    .option('--intent <text>', 'what the run is for; recorded first')
    .option('-q, --quiet', 'no progress')
    .option('--json', 'machine-readable result on stdout');
}

/** Opens a run, hands it over, and closes it whatever happens; Ctrl-C closes it as cancelled. */
export async function inRun<T>(
  context: CliContext,
  options: RunOptions,
  work: (run: Run) => Promise<T>,
): Promise<{ value: T; run: Run }> {
  const policy = options.policy === undefined ? await defaultPolicy() : await loadPolicy(options.policy);
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  const runner = await Runner.create(engine, dataDir);
  const onProgress = options.quiet === true || options.json === true ? undefined : say;
  try {
    const run = await runner.open({
      policy,
      ...(options.workspace === undefined ? {} : { workspace: options.workspace }),
      ...(options.image === undefined ? {} : { image: options.image }),
      ...(options.intent === undefined ? {} : { intent: options.intent }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const cancel = () => void run.close('cancelled', 'interrupted').catch(() => undefined);
    process.once('SIGINT', cancel).once('SIGTERM', cancel);
    try {
      const value = await work(run);
      await run.close('finished');
      return { value, run };
    } catch (error) {
      await run.close('failed', error instanceof Error ? error.message : String(error));
      throw error;
    } finally {
      process.off('SIGINT', cancel).off('SIGTERM', cancel);
    }
  } finally {
    await runner.close();
  }
}

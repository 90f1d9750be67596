import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Approver } from '../../approvals/approval.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import type { IntentInput } from '../../policy/language/intent.ts';
import { readYaml } from '../../policy/language/yaml-source.ts';
import type { LoadedPolicy } from '../../policy/policy.ts';
import { loadPolicyFor } from '../../policy/layers/repository-layer.ts';
import type { DataDir } from '../../data-dir/data-dir.ts';
import { findRunSnapshot, Runner, type OpenRequest, type Run } from '../../runner.ts';
import { terminalApprover } from '../ask-approval.ts';
import type { CliContext } from '../context.ts';
import { forwardOption, forwardPorts, type Forward } from './forward.ts';
import { Interruption } from '../interruption.ts';
import { closingLines, runSummary } from './summary.ts';
import { printJson, say } from '../terminal.ts';

/** Options that every command which opens a run takes. */
export interface RunOptions {
  /** Standard input belongs to the command or the session. */
  readonly stdinIsTaken?: boolean;
  /** Who is asked instead of the terminal; what `approve` lists is theirs to know. */
  readonly approver?: Approver;
  /** Told as soon as the policy is known, before anything is opened. */
  readonly onPolicy?: (policy: LoadedPolicy) => void;
  readonly policy?: string;
  readonly class?: string;
  readonly workspace?: string;
  readonly image?: string;
  readonly intent?: string;
  readonly intentFile?: string;
  readonly model?: string;
  readonly approve?: readonly string[];
  readonly forkOf?: string;
  readonly forward?: readonly Forward[];
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function withRunOptions(command: Command): Command {
  return command
    .option('-p, --policy <file>', 'policy file (default: the shipped "default" policy)')
    .option('-c, --class <name>', 'task class, where the policy has classes')
    .option('-w, --workspace <dir>', 'directory whose allowed files are copied in (default: an empty workspace)')
    .option('-i, --image <image>', "one of the policy's images")
    .option('--intent <text>', 'what the run is for; recorded first')
    .option('--model <name>', 'which model works in it')
    .option('--intent-file <file>', 'the whole intent (YAML or JSON), which can narrow the policy')
    .option(
      '--approve <categories>',
      'approve these in advance (a list with commas); others are asked for here',
      listOf,
    )
    .option(
      '--fork-of <run>',
      'go on where a closed run ended, with its policy, image, base and changes; --class and --model hand it over',
    )
    .option(
      '--forward <port>',
      "a port inside on this machine's loopback while the run is open; 8080:3000 where it is another one here, again for more",
      forwardOption,
    )
    .option('-q, --quiet', 'no progress')
    .option('--json', 'machine-readable result on stdout');
}

/** Opens a run, hands it over, and closes it whatever happens; Ctrl-C, TERM, HUP and a reader that has gone cancel it. */
export async function inRun<T>(
  context: CliContext,
  options: RunOptions,
  work: (run: Run) => Promise<T>,
): Promise<{ value: T; run: Run }> {
  const interruption = new Interruption();
  try {
    const open = await opener(options, interruption.signal);
    const [engine, dataDir, reach] = await Promise.all([context.connect(), context.openDataDir(), context.reach()]);
    const runner = await Runner.create(engine, dataDir, {
      ...reach,
      fingerprints: true,
      approver: options.approver ?? terminalApprover(options.approve ?? [], options.stdinIsTaken !== true),
      waitingAfterMs: Number.POSITIVE_INFINITY,
    });
    try {
      const run = await open(runner, dataDir);
      return { value: await workIn(context, run, work, options, interruption), run };
    } finally {
      await runner.close();
    }
  } finally {
    interruption.end();
  }
}

/** What can be refused without an engine is refused first. */
async function opener(
  options: RunOptions,
  signal: AbortSignal,
): Promise<(runner: Runner, dataDir: DataDir) => Promise<Run>> {
  const { forkOf } = options;
  const request = { ...openRequest(options), signal };
  if (forkOf === undefined) {
    const intent = options.intentFile === undefined ? undefined : await readIntent(options.intentFile);
    const { class: taskClass, model } = options;
    const task = { taskClass, intent: model === undefined ? intent : { ...intent, model } };
    const policy = await loadPolicyFor(options.policy ?? 'default', options.workspace, task);
    options.onPolicy?.(policy);
    return (runner) => runner.open({ policy, ...request });
  }
  if (
    options.policy !== undefined ||
    options.intentFile !== undefined ||
    options.workspace !== undefined ||
    options.image !== undefined
  )
    throw new RunnerError(
      'invalid_request',
      '--fork-of takes policy, workspace and image from the run that it goes on with, and its intent but for --intent and --model; leave those options out',
    );
  return async (runner, dataDir) => {
    const { intent: summary, ...rest } = request;
    const { class: taskClass, model } = options;
    const intent = { ...(summary === undefined ? {} : { summary }), ...(model === undefined ? {} : { model }) };
    const task = Object.keys(intent).length === 0 ? { taskClass } : { taskClass, intent };
    const [fork] = await runner.fork(await findRunSnapshot(dataDir, forkOf), { ...rest, ...task });
    if (fork === undefined) throw new RunnerError('internal', `no fork of run ${forkOf} was opened`);
    return fork;
  };
}

async function readIntent(file: string): Promise<IntentInput> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `the intent ${file} cannot be read: ${messageOf(cause)}`, { cause });
  });
  return readYaml(text, file).value as IntentInput; // understood, and refused, with the policy
}

function listOf(text: string): readonly string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
}

function openRequest(options: RunOptions): Omit<OpenRequest, 'policy' | 'intent'> & { intent?: string } {
  return {
    ...(options.workspace === undefined ? {} : { workspace: options.workspace }),
    ...(options.image === undefined ? {} : { image: options.image }),
    ...(options.intent === undefined ? {} : { intent: options.intent }),
    ...(options.quiet === true || options.json === true ? {} : { onProgress: say }),
  };
}

async function workIn<T>(
  context: CliContext,
  run: Run,
  work: (run: Run) => Promise<T>,
  options: RunOptions,
  interruption: Interruption,
): Promise<T> {
  const working = workForwarded(run, work, options);
  try {
    const value = await interruption.orElse(working);
    await run.close('finished');
    return value;
  } catch (error) {
    if (interruption.exit === undefined) {
      await run.close('failed', messageOf(error));
      throw error;
    }
    await run.close('cancelled', 'interrupted');
    // Nobody waits for what the work was waiting for; it still puts the terminal back.
    process.stdin.destroy();
    await Promise.race([working.catch(() => undefined), sleep(1_000, undefined, { ref: false })]);
    if (options.json === true) printJson(await runSummary(context, run));
    else if (options.quiet !== true) for (const line of await closingLines(context, run)) say(line);
    throw interruption.exit;
  }
}

async function workForwarded<T>(run: Run, work: (run: Run) => Promise<T>, { forward = [] }: RunOptions): Promise<T> {
  const forwarded = await forwardPorts(run, forward);
  try {
    return await work(run);
  } finally {
    await forwarded.close();
  }
}

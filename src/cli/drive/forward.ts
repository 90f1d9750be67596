import { constants } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { DoorClient } from '../../control/door-client.ts';
import { Forwarding } from '../../control/forwarding.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { Run } from '../../runner.ts';
import { Exit, type CliContext } from '../context.ts';
import { onEndAsked } from '../interruption.ts';
import { inOpenRun, type RunPlace } from '../run-place.ts';
import { print, printJson, say } from '../terminal.ts';

export function forwardCommand(program: Command, context: CliContext): void {
  program
    .command('forward')
    .description("a port inside an open run, on this machine's loopback, until Ctrl-C or the end of the run")
    .argument('<run>', 'name, id, or the beginning of one')
    .argument('<port>', 'what a program inside listens on (127.0.0.1)', portNumber(1))
    .option('--on <port>', 'the port here, 0 for a free one (default: the same)', portNumber(0))
    .option('--json', 'where it listens, as JSON')
    .action(async (id: string, port: number, options: { on?: number; json?: boolean }) => {
      await inOpenRun(context, id, async (place) => {
        const way = await wayInto(place);
        const ending = new Ending();
        try {
          const forwarding = await Forwarding.open({
            port,
            ...(options.on === undefined ? {} : { hostPort: options.on }),
            connect: (wanted) => way.connect(wanted),
            onRefused,
          });
          const { url, hostPort } = forwarding;
          if (options.json === true) printJson({ run: way.run, port, hostPort, url });
          else print(url);
          say(`glovebox: leads to port ${port} inside run ${way.run}; Ctrl-C ends it`);
          await way.ended(ending.signal);
          await forwarding.close();
          if (ending.exit !== undefined) throw ending.exit;
          say(`glovebox: run ${way.run} has ended`);
        } finally {
          ending.close();
          await way.close();
        }
      });
    });
}

/** To the loopback of a run: by its door on this machine, or through the service that has it. */
interface WayIn extends Pick<DoorClient, 'connect' | 'ended' | 'close'> {
  readonly run: string;
}

async function wayInto(place: RunPlace): Promise<WayIn> {
  if (place.kind === 'directory') {
    const door = await DoorClient.open(place.dir);
    return {
      run: place.dir.id,
      connect: (port) => door.connect(port),
      ended: (signal) => door.ended(signal),
      close: () => door.close(),
    };
  }
  const { run } = place;
  const { state } = await run.view();
  if (state !== 'open')
    throw new RunnerError('run_not_open', `run ${run.id} is ${state}; glovebox log ${run.id} shows how it ended`);
  const ended = async (signal: AbortSignal): Promise<void> => {
    const last = (await run.entries(signal)).at(-1);
    if (last?.type === 'run.closed') return;
    const after = last?.seq ?? 0;
    for await (const entry of run.journal({ after, signal })) if (entry.type === 'run.closed') return;
  };
  return {
    run: run.id,
    connect: (port) => run.connect(port),
    ended: (signal) => ended(signal).catch(() => undefined),
    close: async () => undefined,
  };
}

/** For `--forward` of a run that is opened here: `3000`, or `8080:3000` where it is another one here. Repeatable. */
export function forwardOption(text: string, before: readonly Forward[] = []): readonly Forward[] {
  const [, here, inside = ''] = /^(?:(\d+):)?(\d+)$/.exec(text) ?? [];
  const port = portNumber(1)(inside);
  return [...before, { port, hostPort: here === undefined ? port : portNumber(0)(here) }];
}

export interface Forward {
  readonly port: number;
  readonly hostPort: number;
}

/** Listens for as long as the run is worked in; what was opened is closed with `close`. */
export async function forwardPorts(run: Run, forwards: readonly Forward[]): Promise<{ close(): Promise<void> }> {
  const open: Forwarding[] = [];
  const close = async (): Promise<void> => void (await Promise.all(open.map((forwarding) => forwarding.close())));
  try {
    for (const { port, hostPort } of forwards) {
      const forwarding = await Forwarding.open({ port, hostPort, connect: (wanted) => run.forward(wanted), onRefused });
      open.push(forwarding);
      say(`glovebox: ${forwarding.url} leads to port ${port} inside`);
    }
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

function onRefused(error: unknown): void {
  say(`glovebox: a connection was refused: ${printable(messageOf(error))}`);
}

function portNumber(min: 0 | 1): (text: string) => number {
  return (text) => {
    const port = Number(text);
    if (/^\d{1,5}$/.test(text) && port >= min && port <= 65_535) return port;
    throw new InvalidArgumentError(`It wants a port, ${min} to 65535.`);
  };
}

/** Ctrl-C and its like, while there is nothing of the run to close. */
class Ending {
  readonly #controller = new AbortController();

  readonly #ignore = onEndAsked((name) => this.#controller.abort(new Exit(128 + constants.signals[name])));

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get exit(): Exit | undefined {
    return this.signal.aborted ? (this.signal.reason as Exit) : undefined;
  }

  close(): void {
    this.#ignore();
  }
}

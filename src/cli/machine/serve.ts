import { constants } from 'node:os';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { Admission } from '../../api/admission.ts';
import { openLog } from '../../api/log.ts';
import { openApi } from '../../api/open-api.ts';
import { ApiServer, type ListenOn } from '../../api/server.ts';
import { loadConfig } from '../../config.ts';
import { RunnerError } from '../../errors.ts';
import { openReviewerKeys } from '../../promotion/reviewer-keys.ts';
import { openService, type OpenedService } from '../../service/open-service.ts';
import { RetentionSweep } from '../../service/retention.ts';
import type { Service } from '../../service/service.ts';
import { exitCodes, type CliContext } from '../context.ts';
import { wholeNumber } from '../numbers.ts';
import { printJson, say } from '../terminal.ts';
import { compileSooner } from './compile-sooner.ts';

interface Options {
  readonly listen: readonly ListenOn[];
  readonly listenBeyondLoopback?: boolean;
  readonly policies?: string;
  readonly workspaces?: readonly string[];
  readonly durability?: 'process' | 'power';
  readonly maxRuns?: number;
  readonly keepFree?: number;
  readonly warm: number;
  readonly openAtOnce?: number;
  readonly drainTimeout: number;
  readonly leaveRuns?: boolean;
  readonly endWhenIdle?: number;
  readonly takeStrangers?: boolean;
  readonly trustLocalIdentities?: boolean;
  readonly logFormat: 'json' | 'pretty';
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  readonly json?: boolean;
}

const lastAnswersMs = 2_000;

export function serveCommand(program: Command, context: CliContext): void {
  program
    .command('serve')
    .description('the runner as a service: HTTP on a unix socket of yours, and on ports with keys; docs/http.md')
    .addOption(
      new Option('--listen <address>', 'also on 127.0.0.1:PORT (0 takes a free one); again for more')
        .argParser(listenOn)
        .default([], 'none'),
    )
    .option('--listen-beyond-loopback', 'allows addresses that others reach: put TLS in front (docs/operations.md)')
    .option('--policies <dir>', 'the policies that are offered, NAME.yaml each (default: the shipped ones)')
    .option('--workspaces <dir...>', 'directories below which workspaces may be')
    .addOption(
      new Option(
        '--durability <what>',
        'what survives when an answer has left: the end of the process, or of the power',
      )
        .choices(['process', 'power'])
        .default('process'),
    )
    .option('--max-runs <n>', 'open at once (default: 256)', wholeNumber(1))
    .option(
      '--keep-free <mib>',
      'no run is opened with less free on the disk of the data directory (default: 1024, of a small disk a twentieth)',
      wholeNumber(0),
    )
    .option('--warm <n>', 'sandboxes that are kept ready for who comes next; 0: none', wholeNumber(0), 4)
    .option('--open-at-once <n>', 'runs for which a sandbox is made at once (default: two a processor)', wholeNumber(1))
    .option('--drain-timeout <ms>', 'on SIGTERM running calls have so long', wholeNumber(0), 30_000)
    .option('--leave-runs', 'on SIGTERM open runs are left for the next service, not closed')
    .option(
      '--end-when-idle <ms>',
      'ends when no run is open and nobody has asked for anything for so long',
      wholeNumber(1),
    )
    .option('--take-strangers', 'take up sandboxes of which the database knows nothing, however many')
    .option('--trust-local-identities', 'whoever has the socket may say who it is (X-Glovebox-As)')
    .addOption(new Option('--log-format <form>', 'of the log, on stderr').choices(['json', 'pretty']).default('json'))
    .addOption(
      new Option('--log-level <level>', 'the least that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .option('--json', 'where it listens, as JSON')
    .action((options: Options) => serve(context, options));
}

async function serve(context: CliContext, options: Options): Promise<void> {
  refuseBeyondLoopback(options);
  const stopping = new Stopping();
  const log = openLog({ format: options.logFormat, level: options.logLevel });
  const [engine, dataDir, reach, { signing, promotion }] = await Promise.all([
    context.connect(),
    context.openDataDir(),
    context.reach(),
    loadConfig(),
  ]);
  const opened = await openService({
    engine,
    dataDir,
    runner: {
      ...reach,
      pool: { warmMax: options.warm },
      ...(options.openAtOnce === undefined ? {} : { opens: { atOnce: options.openAtOnce } }),
    },
    policies: options.policies,
    signing,
    reviewers: await openReviewerKeys(promotion.reviewers),
    durability: options.durability,
    takeStrangers: options.takeStrangers,
    workspaces: options.workspaces ?? [],
    ...(options.maxRuns === undefined ? {} : { runsMax: options.maxRuns }),
    ...(options.keepFree === undefined ? {} : { keepFreeBytes: options.keepFree * 1024 ** 2 }),
    onProgress: (line) => log.info(line),
  });
  const { service, runner } = opened;
  const trustLocalIdentities = options.trustLocalIdentities === true;
  const { app, admission, metrics } = openApi({ service, log, trustLocalIdentities });
  metrics.followRunner(runner);
  const server = new ApiServer(app);
  const retention = new RetentionSweep({
    dataDir,
    store: opened.store,
    onFailed: (reason) => log.warn(`retention: ${reason}`),
  });
  compileSooner();
  try {
    const socket: ListenOn = { kind: 'unix', path: join(dataDir.path, 'service.sock') };
    retention.start();
    const listening: ListenOn[] = [];
    for (const where of [socket, ...options.listen]) listening.push(await server.listen(where));
    tell(listening, options, dataDir.path);
    log.info({ pid: process.pid, runs: service.openRuns }, 'the service is ready');
    if (options.endWhenIdle !== undefined) stopping.whenIdle(service, admission, options.endWhenIdle);
    const reason = await stopping.asked;
    log.info(
      { reason, openRuns: service.openRuns },
      'the service stops: no more runs, calls that run come to their end',
    );
    await service.drain(options.drainTimeout, options.leaveRuns === true ? 'leave' : 'close');
  } finally {
    await retention.stop();
    await end(server, opened, options.leaveRuns === true);
    stopping.end();
  }
  log.info('the service has stopped');
  // Streams of sandboxes that go on would hold this process.
  if (options.leaveRuns === true) process.exit(exitCodes.ok);
}

async function end(server: ApiServer, opened: OpenedService, leave: boolean): Promise<void> {
  await server.close(lastAnswersMs);
  await (leave ? opened.leave() : opened.close());
}

function tell(listening: readonly ListenOn[], options: Options, dataDir: string): void {
  if (options.json === true) return printJson({ pid: process.pid, dataDir, listening: listening.map(urlOf) });
  for (const where of listening)
    say(`glovebox: serves ${urlOf(where)} (${where.kind === 'unix' ? 'yours: no key is needed' : 'with a key'})`);
  const ports = listening.filter(({ kind }) => kind === 'tcp');
  say(
    ports.length === 0
      ? 'next: glovebox open, in another terminal; Ctrl-C stops the service'
      : 'next: glovebox key create --team TEAM --identity NAME --policy default; Ctrl-C stops the service',
  );
}

function urlOf(where: ListenOn): string {
  if (where.kind === 'unix') return `unix:${where.path}`;
  return `http://${where.host.includes(':') ? `[${where.host}]` : where.host}:${where.port}`;
}

function listenOn(text: string, before: readonly ListenOn[]): readonly ListenOn[] {
  const [, bracketed, plain, port = ''] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '';
  if (isIP(host) === 0 || Number(port) > 65_535)
    throw new InvalidArgumentError('It wants an address and a port, such as 127.0.0.1:7070 or [::1]:7070.');
  return [...before, { kind: 'tcp', host, port: Number(port) }];
}

function refuseBeyondLoopback({ listen, listenBeyondLoopback }: Options): void {
  if (listenBeyondLoopback === true) return;
  for (const where of listen)
    if (where.kind === 'tcp' && !/^127\.|^::1$/.test(where.host))
      throw new RunnerError(
        'invalid_config',
        `${where.host} is reached from other machines, and keys would cross the network in the clear; listen on 127.0.0.1 behind ` +
          'a proxy with TLS, or say --listen-beyond-loopback',
      );
}

const idlePolls = 10;

/** SIGTERM and SIGINT ask once; asked twice, the process leaves at once. */
class Stopping {
  readonly asked: Promise<NodeJS.Signals | 'idle'>;
  #ask: (reason: NodeJS.Signals | 'idle') => void = () => undefined;
  #isAsked = false;
  #idle: NodeJS.Timeout | undefined;

  constructor() {
    this.asked = new Promise((resolve) => {
      this.#ask = resolve;
    });
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, this.#onSignal);
  }

  /** What waits, runs or is being opened keeps it. */
  whenIdle(service: Service, admission: Admission, idleMs: number): void {
    this.#idle = setInterval(
      () => {
        const { idleSinceMs } = admission;
        if (idleSinceMs === undefined || service.openRuns + service.openingRuns + service.verifications.size > 0)
          return;
        if (performance.now() - idleSinceMs >= idleMs) this.#ask('idle');
      },
      Math.ceil(idleMs / idlePolls),
    );
  }

  end(): void {
    clearInterval(this.#idle);
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.off(name, this.#onSignal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (this.#isAsked) process.exit(128 + constants.signals[name]);
    this.#isAsked = true;
    this.#ask(name);
  };
}

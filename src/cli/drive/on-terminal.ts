import { finished } from 'node:stream/promises';
import type { ExecOptions, RemoteRun, ResultOf } from '../../client/client.ts';

/** A command in a terminal of its own, which is this one for as long as it runs. Ctrl-C is a key like any other there. */
export async function onTerminal(
  run: RemoteRun,
  command: string | readonly [string, ...string[]],
  options: ExecOptions,
): Promise<ResultOf<'exec'>> {
  const size = (): { columns: number; rows: number } => ({
    columns: process.stdout.columns || 80,
    rows: process.stdout.rows || 24,
  });
  const { started, ended, command: running } = await run.start(command, { ...options, tty: size() });
  if (started.data === null) return started;
  const terminal = await running.terminal(options.signal);
  const onResize = (): void => void running.resize(size().columns, size().rows).catch(() => undefined);
  process.stdin.setRawMode(true);
  process.stdout.on('resize', onResize);
  process.stdin.pipe(terminal);
  terminal.pipe(process.stdout, { end: false });
  try {
    await Promise.race([finished(terminal, { writable: false }).catch(() => undefined), ended]);
  } finally {
    process.stdin.unpipe(terminal);
    process.stdout.off('resize', onResize);
    process.stdin.setRawMode(false);
    process.stdin.pause();
  }
  const result = await ended;
  terminal.destroy();
  return result;
}

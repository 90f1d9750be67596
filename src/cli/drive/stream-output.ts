import { once } from 'node:events';
import type { RunningCall } from '../../sandbox/call.ts';

/** Copies a command's output here as it comes, stdout to stdout and stderr to stderr, and our input there when asked. */
export async function streamOutput(command: RunningCall, withStdin: boolean): Promise<void> {
  const input = withStdin ? forwardInput(command) : undefined;
  const sent = { stdout: 0, stderr: 0 };
  for (let seen = 0; ; seen = command.output.size('merged')) {
    await command.output.waitBeyond(seen, 60_000);
    const finished = command.output.finished;
    sent.stdout = await copy(command, 'stdout', sent.stdout);
    sent.stderr = await copy(command, 'stderr', sent.stderr);
    if (finished || command.result !== undefined) break;
  }
  await command.ended;
  await copy(command, 'stdout', sent.stdout);
  await copy(command, 'stderr', sent.stderr);
  input?.();
}

async function copy(command: RunningCall, view: 'stdout' | 'stderr', from: number): Promise<number> {
  for (let offset = from; ;) {
    const { bytes, nextOffset } = await command.output.read(offset, 1 << 18, view);
    if (bytes.length === 0) return offset;
    await writeOut(process[view], bytes);
    offset = nextOffset;
  }
}

/** At the pace of whoever reads; what nobody reads any more is dropped. */
async function writeOut(out: NodeJS.WriteStream, bytes: Buffer): Promise<void> {
  if (out.destroyed || out.write(bytes) || out.destroyed) return;
  const gone = new AbortController();
  const any = { signal: gone.signal };
  await Promise.race([once(out, 'drain', any), once(out, 'close', any)]).catch(() => undefined);
  gone.abort();
}

function forwardInput(command: RunningCall): () => void {
  const input = process.stdin;
  const onData = (chunk: Buffer) => {
    input.pause();
    command.write(chunk).then(
      () => input.resume(),
      () => undefined,
    );
  };
  const onEnd = () => void command.closeStdin().catch(() => undefined);
  input.on('data', onData).on('end', onEnd);
  return () => {
    input.off('data', onData).off('end', onEnd);
    input.pause();
    input.unref?.();
  };
}

import { once } from 'node:events';
import type { Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import { findOutput } from '../../sandbox/find-output.ts';
import type { OutputView } from '../../sandbox/output-log.ts';
import type { CliContext } from '../context.ts';
import { atRun } from '../run-place.ts';

const views: readonly OutputView[] = ['merged', 'stdout', 'stderr'];
const pieceBytes = 1 << 18;

export function outputCommand(program: Command, context: CliContext): void {
  program
    .command('output')
    .description('what a call has printed, every byte that was kept; the journal names the calls')
    .argument('<run>', 'name, id, or the beginning of one')
    .argument('<call>', 'the id of an exec call')
    .option('--stream <view>', 'merged, stdout or stderr', 'merged')
    .option('--offset <bytes>', 'from this byte of the view on', '0')
    .option('--json', 'a line of JSON for each piece: offset, and the bytes as base64')
    .action(async (id: string, callId: string, options: { stream: string; offset: string; json?: boolean }) => {
      const view = views.find((name) => name === options.stream);
      const offset = Number(options.offset);
      if (view === undefined || !Number.isSafeInteger(offset) || offset < 0)
        throw new RunnerError('invalid_request', `--stream wants ${views.join(', ')}, --offset a number of bytes`);
      await atRun(context, id, async (place) => {
        const pieces =
          place.kind === 'directory'
            ? piecesOf(place.dir.callsDir, callId, view, offset)
            : place.run.output(callId, { stream: view, offset });
        let at = offset;
        for await (const bytes of pieces) {
          await write(options.json === true ? `${JSON.stringify({ offset: at, base64: base64Of(bytes) })}\n` : bytes);
          at += bytes.length;
        }
      });
    });
}

async function* piecesOf(
  directory: string,
  callId: string,
  view: OutputView,
  from: number,
): AsyncGenerator<Uint8Array, void, void> {
  const output = await findOutput(directory, callId);
  if (output === undefined)
    throw new RunnerError(
      'call_not_found',
      `no command was started as call ${callId} in this run; glovebox log names those that were`,
    );
  for (let offset = from; ;) {
    const { bytes, nextOffset } = await output.read(offset, pieceBytes, view);
    if (bytes.length === 0) return;
    yield bytes;
    offset = nextOffset;
  }
}

function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

async function write(bytes: Uint8Array | string): Promise<void> {
  if (!process.stdout.write(bytes)) await once(process.stdout, 'drain');
}

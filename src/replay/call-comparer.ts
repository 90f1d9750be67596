import { canonicalJson } from '../digest.ts';
import type { EntryData, EntryOutcome } from '../journal/entry.ts';
import { outputDigest } from '../run/output-digest.ts';
import type { Run } from '../runner.ts';
import type { OutputLog, OutputView } from '../sandbox/output-log.ts';
import { renderText } from '../tools/result-text.ts';
import type { ToolData, ToolResult } from '../tools/tool-result.ts';
import { compareEnds, comparePrinted, difference, type Difference, type Extent } from './compare.ts';
import type { Noise, NoiseContext } from './noise.ts';
import type { PlayOptions } from './player.ts';
import type { Recorded } from './recorded.ts';

type End = EntryData<'call.ended'>;

/** Longer outputs that differ are not looked through for noise. */
const outputBytesMax = 16 * 1024 * 1024;

/** Holds what came out of a call against what is on record of it: how it ended, then what it printed or answered. */
export function callComparer(
  recorded: Recorded,
  run: Run,
  { noise, onWeak }: { readonly noise: Noise; readonly onWeak: (callId: string, why: string) => void },
): PlayOptions['compare'] {
  const openedMs = Date.now();
  const contextNow = (): NoiseContext => ({
    openMs: [openedMs - openingMs, Date.now()],
    names: namesOf(run),
  });
  return async ({ callId, end }, came) => {
    const ends = compareEnds({ ...end, error: end.error?.code }, came);
    if (ends !== undefined) return ends;
    const terms = { recorded, noise, onWeak, now: contextNow() };
    if (end.output === undefined) return await compareAnswers(callId, came.result, terms);
    const output = run.findCommand(callId)?.output;
    return output === undefined ? undefined : await compareOutputs(callId, end, output, terms);
  };
}

/** Nothing of a run is older. */
const openingMs = 120_000;

interface Terms {
  readonly recorded: Recorded;
  readonly noise: Noise;
  /** It came out the same as far as anybody can tell, which is not far enough. */
  readonly onWeak: (callId: string, why: string) => void;
  readonly now: NoiseContext;
}

function namesOf(run: Run): readonly string[] {
  const { containerId, spec } = run.sandbox;
  return [containerId, containerId.slice(0, 12), run.id, spec.id];
}

/** Undefined: what it had printed by then is the moment's, whatever was run. */
export function extentOf(outcome: EntryOutcome, isSignalled: boolean): Extent | undefined {
  if (isSignalled) return 'begun';
  switch (outcome.kind) {
    case 'timed_out':
    case 'idle_timed_out':
    case 'cancelled':
      return 'begun';
    case 'out_of_memory':
    case 'pids_limit':
      return undefined;
    default:
      return 'whole';
  }
}

async function compareOutputs(
  callId: string,
  end: End,
  now: OutputLog,
  { recorded, noise, now: context }: Terms,
): Promise<Difference | undefined> {
  const extent = extentOf(end.outcome, recorded.plan.signalled.has(callId));
  if (extent === undefined || (await outputDigest(now)) === end.output?.digest) return undefined;
  const then = recorded.output(callId);
  const sizes = `${end.output?.bytes ?? 0} bytes`;
  if (then === undefined)
    return difference('output', `${sizes}, of which only the digest is kept`, `${now.size()} other bytes`);
  if (Math.max(then.size(), now.size()) > outputBytesMax)
    return difference('output', sizes, `${now.size()} other bytes: too many to look for noise in`);
  // Two pipes have no order between them: what went to each counts.
  const views: readonly OutputView[] = then.coarse || now.coarse ? ['merged'] : ['stdout', 'stderr'];
  for (const view of views) {
    const [before, after] = await Promise.all([textOf(then, view), textOf(now, view)]);
    const printed = { text: before, context: recorded.context };
    const found = await comparePrinted('output', printed, { text: after, context }, { noise, extent });
    if (found !== undefined) return found;
  }
  return undefined;
}

async function textOf(output: OutputLog, view: OutputView): Promise<string> {
  const parts: string[] = [];
  for (let offset = 0; ;) {
    const { bytes, nextOffset, done } = await output.read(offset, 1 << 20, view);
    parts.push(bytes.toString('latin1'));
    if (done || bytes.length === 0) return parts.join('');
    offset = nextOffset;
  }
}

/** What a tool without a command has found: the same data, or a text that is the same but for noise. */
async function compareAnswers(
  callId: string,
  now: ToolResult | undefined,
  { recorded, noise, onWeak, now: context }: Terms,
): Promise<Difference | undefined> {
  const then = await recorded.answer(callId);
  if (then === undefined) onWeak(callId, 'what it answered is not kept any more: compared by how it ended alone');
  if (then === undefined || then === 'failed' || now === undefined) return undefined;
  const [before, after] = [steady(then.data), steady(now.data)];
  if (before === after) return undefined;
  const [told, found] = [textOfData(then.data), textOfData(now.data)];
  const printed = { text: told ?? before, context: recorded.context };
  return await comparePrinted('answer', printed, { text: found ?? after, context }, { noise });
}

/** As text, where that is all there is to it. */
function textOfData(data: ToolData | null): string | undefined {
  if (data === null) return undefined;
  const isText = (data.kind === 'content' && data.content.utf8) || data.kind === 'entries' || data.kind === 'matches';
  return isText ? Buffer.from(renderText(data, '')).toString('latin1') : undefined;
}

/** Without what another moment, or another sandbox, makes of the same files. */
function steady(data: ToolData | null): string {
  const text = JSON.stringify(data, (key, value: unknown) =>
    key === 'mtimeMs' || (key === 'base64' && data?.kind === 'archive') ? undefined : value,
  );
  return Buffer.from(canonicalJson(JSON.parse(text))).toString('latin1');
}

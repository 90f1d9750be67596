import pc from 'picocolors';
import type { ContextView } from '../../contract/context-view.ts';
import { printable } from '../../journal/printable.ts';
import { plural } from '../../plural.ts';

type Named = ContextView['worker'];

/** Who worked and what they believed, for a person. Text of agents and harnesses is escaped: nothing in it can be obeyed. */
export function contextLines(view: ContextView): readonly string[] {
  const { run, parts, applied, snapshots } = view;
  return [
    pc.bold(`run ${run}`),
    ...parts.map(partLine),
    ...applied.map((one) => `  with ${plural(one.changes, 'change')} of run ${one.run} ${pc.dim(one.digest)}`),
    ...(snapshots.length === 0 ? [] : ['', pc.bold('context snapshots'), ...snapshots.map(snapshotLine)]),
    '',
    ...inForceLines(view),
  ];
}

function partLine(part: ContextView['parts'][number], index: number): string {
  const { calls, denied, firstCall, lastCall, from } = part;
  const which = firstCall === null ? '' : ` (${firstCall}${lastCall === firstCall ? '' : ` to ${lastCall ?? ''}`})`;
  const refused = denied === 0 ? '' : `, ${denied} denied`;
  const before = from === null ? '' : `, handed over by ${workerText(from)}${index > 0 ? '' : ` in run ${from.run}`}`;
  return `  ${index + 1}  ${workerText(part)}: ${plural(calls, 'call')}${which}${refused}${before}`;
}

function snapshotLine({ number, time, at, version, model, summary, tokens, cost }: ContextView['snapshots'][number]) {
  const when = at === 'other' ? '' : ` ${printable(at).replaceAll('_', ' ')}`;
  const who = model === null ? '' : `  ${printable(model)}`;
  const spent = [
    ...(tokens === null ? [] : [`${tokens.input} + ${tokens.output} tokens`]),
    ...(cost === null ? [] : [`${cost.amount} ${printable(cost.currency)}`]),
  ];
  const paid = spent.length === 0 ? '' : pc.dim(`  ${spent.join(', ')}`);
  return `  ${number}  ${pc.dim(time.slice(11, 19))}  version ${version}${when}${who}  ${short(printable(summary))}${paid}`;
}

/** The whole, as it was attached. */
function inForceLines({ call, worker, inForce }: ContextView): readonly string[] {
  const when = call === null ? 'now' : `when ${workerText(worker)} made call ${call}`;
  if (inForce === null) return [`${pc.bold(when)}: nobody had said what the agent believes`];
  const { number, time, snapshot } = inForce;
  const head = `${pc.bold(when)}: context ${number}, of ${time}`;
  if (snapshot === null) return [`${head}; the whole is no longer kept`];
  const { summary, source_refs: sources, diffs } = snapshot;
  return [
    head,
    ...quoted(summary),
    ...(sources.length === 0 ? [] : ['  it has that from', ...sources.map((source) => `    ${printable(source)}`)]),
    ...diffs.flatMap(({ path, text }) => [`  changed before: ${printable(path)}`, ...quoted(text)]),
  ];
}

function quoted(text: string): readonly string[] {
  const lines = printable(text.replace(/\n+$/, ''), { newlines: 'keep' }).split('\n');
  return lines.map((line) => `${pc.dim('    │ ')}${line}`);
}

function workerText({ lane, model }: Named): string {
  const who = model === null ? 'somebody' : printable(model);
  return lane === null ? who : `${who} in lane ${printable(lane)}`;
}

function short(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}

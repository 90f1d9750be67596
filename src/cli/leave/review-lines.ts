import pc from 'picocolors';
import type { ReviewView } from '../../contract/review-view.ts';
import { printable } from '../../journal/printable.ts';
import { displayPath } from '../../workspace/changes/names.ts';
import { setbackLines } from '../setback-lines.ts';

const shownMax = 100;

/** What a reviewer has to see before the diff. Text of sandboxes and people is escaped. */
export function reviewLines(view: ReviewView): readonly string[] {
  const { run, intent, risk, base, image, demand } = view;
  return [
    `${pc.bold(`run ${run}`)}  risk ${risk}${intent === null ? '' : `  ${printable(intent).slice(0, 200)}`}`,
    pc.dim(
      `  from ${base.commit === null ? base.digest : `commit ${printable(base.commit)}`}, image ${printable(image.reference)}`,
    ),
    pc.dim(`  ${workText(view.work)}`),
    pc.dim(`  ${view.openedAt} to ${view.closedAt}, ${view.entries} entries, manifest ${view.manifest}`),
    ...section('files, the riskiest first', view.files.map(fileLine)),
    ...section('left behind', view.left.map(leftLine)),
    ...section('gates', gateLines(view)),
    ...section('approvals while it ran', view.approvals.map(approvalLine)),
    ...section('what happened', view.timeline.map(momentLine)),
    ...section('earlier', setbackLines(view.setbacks)),
    ...section('reviews', view.reviews.map(reviewLine)),
    '',
    `it ${printable(demand.text)} (${demand.because.map((text) => printable(text)).join('; ')})`,
  ];
}

function workText({ models, lanes, handOvers, snapshots }: ReviewView['work']): string {
  const who =
    models.length === 0
      ? 'nobody says which model worked'
      : `models: ${models.map((name) => printable(name)).join(', ')}`;
  const where = lanes.length === 0 ? '' : `, lanes: ${lanes.map((name) => printable(name)).join(', ')}`;
  const over = handOvers === 0 ? '' : `, handed over ${handOvers} times`;
  return `${who}${where}${over}; ${snapshots} context snapshots`;
}

function section(title: string, lines: readonly string[]): readonly string[] {
  if (lines.length === 0) return [];
  const more = lines.length > shownMax ? [pc.dim(`  … ${lines.length - shownMax} more; --json has them`)] : [];
  return ['', pc.bold(title), ...lines.slice(0, shownMax), ...more];
}

function fileLine({ path, status, categories, flags, added, removed }: ReviewView['files'][number]): string {
  const lines = added === null ? '' : ` ${pc.green(`+${added}`)} ${pc.red(`-${removed ?? 0}`)}`;
  const marks = [...categories.filter((category) => category !== 'source'), ...flags];
  const shown = marks.length === 0 ? '' : ` [${printable(marks.join(', '))}]`;
  const color = categories.includes('execution_bearing') || flags.length > 0 ? pc.yellow : pc.dim;
  return `  ${status.replace('_', ' ').padEnd(12)} ${displayPath(path)}${lines}${color(shown)}`;
}

function leftLine({ path, effect, kind }: ReviewView['left'][number]): string {
  const color = effect === 'refused' || effect === 'incomplete' ? pc.red : pc.yellow;
  return `  ${color(effect.replaceAll('_', ' '))} ${displayPath(path)} (${printable(kind).replaceAll('_', ' ')})`;
}

/** Everything in a verification of this machine is printable already; this one may be of a bundle from elsewhere. */
function gateLines({ verification, verifications, replay }: ReviewView): readonly string[] {
  if (verification === null) return [`  ${pc.red('nobody has verified it')}`, ...replayLines(replay)];
  const { verdict, gates, checksTouched } = verification;
  const color = verdict === 'passed' ? pc.green : verdict === 'needs_review' ? pc.yellow : pc.red;
  const touched = checksTouched.slice(0, 10).map((path) => displayPath(path));
  const often = verifications > 1 ? pc.yellow(`, verified ${verifications} times`) : '';
  return [
    `  ${color(verdict.replace('_', ' '))}${often}`,
    ...gates.map(({ id, verdict: own, reason }) => `  ${own.padEnd(12)} ${id}  ${printable(reason)}`),
    ...(touched.length === 0 ? [] : [`  ${pc.yellow('it changes what is checked:')} ${touched.join(', ')}`]),
    ...replayLines(replay),
  ];
}

function replayLines(replay: ReviewView['replay']): readonly string[] {
  if (replay === null) return [];
  if (replay.verdict === 'clean')
    return [`  ${pc.green('repeatable')}: its calls were made again, and all came out the same`];
  const why = replay.divergence === null ? 'not all of its calls could be made again' : printable(replay.divergence);
  return [`  ${pc.yellow('not repeatable')}: ${why.slice(0, 300)}`];
}

function approvalLine({ category, verdict, by, reason }: ReviewView['approvals'][number]): string {
  const who = by.length === 0 ? 'nobody' : by.map((name) => printable(name)).join(', ');
  return `  ${printable(category)}  ${verdict} by ${who}: ${printable(reason).slice(0, 200)}`;
}

function momentLine({ at, what }: ReviewView['timeline'][number]): string {
  return `  ${pc.dim(at.slice(11, 19))}  ${printable(what)}`;
}

function reviewLine({ verdict, by, reason, at, known }: ReviewView['reviews'][number]): string {
  const color = verdict === 'accepted' ? pc.green : pc.red;
  return `  ${color(verdict)} by ${printable(by)} (${known}) on ${at.slice(0, 16)}  ${printable(reason)}`;
}

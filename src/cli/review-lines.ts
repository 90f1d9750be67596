import pc from 'picocolors';
import type { Facts } from '../bundle/facts.ts';
import type { Manifest, ManifestChange } from '../bundle/manifest.ts';
import type { Digest } from '../digest.ts';
import { printable } from '../journal/printable.ts';
import { demandedBy, linesOf } from '../promotion/candidate.ts';
import type { Review } from '../promotion/review.ts';
import type { Setback } from '../promotion/rolled-back.ts';
import { demandOf, demandText, strictest } from '../promotion/rules.ts';
import { displayPath } from '../workspace/changes/names.ts';
import { setbackLines } from './setback-lines.ts';

const shownMax = 100;

interface Known {
  readonly reviews: readonly Review[];
  readonly setbacks: readonly Setback[];
}

/** What a reviewer has to see before the diff. Text of sandboxes and people is escaped. */
export function reviewLines(manifest: Manifest, digest: Digest, facts: Facts, known: Known): readonly string[] {
  const { run, intent, risk, base, image } = manifest;
  const { story } = facts;
  return [
    `${pc.bold(`run ${run}`)}  risk ${risk}${intent === undefined ? '' : `  ${printable(intent).slice(0, 200)}`}`,
    pc.dim(
      `  from ${base.commit === undefined ? base.digest : `commit ${base.commit}`}, image ${printable(image.reference)}`,
    ),
    pc.dim(`  ${story.openedAt} to ${story.closedAt}, ${manifest.journal.entries} entries, manifest ${digest}`),
    ...section('files, the riskiest first', fileLines(manifest, facts)),
    ...section('left behind', leftLines(facts)),
    ...section('gates', gateLines(facts)),
    ...section('approvals while it ran', approvalLines(facts)),
    ...section('earlier', setbackLines(known.setbacks)),
    ...section('reviews', known.reviews.map(reviewLine)),
    '',
    `it ${demandLine(manifest, facts)}`,
  ];
}

function section(title: string, lines: readonly string[]): readonly string[] {
  if (lines.length === 0) return [];
  const more = lines.length > shownMax ? [pc.dim(`  … ${lines.length - shownMax} more; --json has them`)] : [];
  return ['', pc.bold(title), ...lines.slice(0, shownMax), ...more];
}

const order = ['execution_bearing', 'secret_looking', 'dependency', 'configuration', 'binary', 'generated'];

function riskOf({ categories, flags }: ManifestChange): number {
  const worst = Math.min(
    order.length,
    ...categories.map((category) => order.indexOf(category)).filter((at) => at >= 0),
  );
  return worst * 2 - (flags.length > 0 ? 1 : 0);
}

function fileLines({ changes }: Manifest, { diff }: Facts): readonly string[] {
  const counts = new Map(diff.changes.map(({ path, added, removed }) => [path, { added, removed }]));
  return changes
    .filter(({ before, after }) => (after ?? before)?.kind !== 'directory')
    .toSorted((a, b) => riskOf(a) - riskOf(b))
    .map((change) => {
      const { path, status, categories, flags } = change;
      const { added, removed } = counts.get(path) ?? {};
      const lines = typeof added === 'number' ? ` ${pc.green(`+${added}`)} ${pc.red(`-${removed ?? 0}`)}` : '';
      const marks = [...categories.filter((category) => category !== 'source'), ...flags];
      const shown = marks.length === 0 ? '' : ` [${printable(marks.join(', '))}]`;
      const color = categories.includes('execution_bearing') || flags.length > 0 ? pc.yellow : pc.dim;
      return `  ${status.replace('_', ' ').padEnd(12)} ${displayPath(path)}${lines}${color(shown)}`;
    });
}

function leftLines({ diff }: Facts): readonly string[] {
  return [
    ...diff.findings
      .filter(({ effect }) => effect !== 'noted')
      .map(({ path, kind, effect }) => `  ${pc.red(effect)} ${displayPath(path)} (${printable(kind)})`),
    ...diff.violations.map(({ path, kind }) => `  ${pc.yellow('out of scope')} ${displayPath(path)} (${kind})`),
    ...diff.held.map(
      ({ path, why }) => `  ${pc.yellow('held back')} ${displayPath(path)} (${why.replaceAll('_', ' ')})`,
    ),
  ];
}

/** Everything in a verification of this machine is printable already; this one may be of a bundle from elsewhere. */
function gateLines({ verification }: Facts): readonly string[] {
  if (verification === undefined) return [`  ${pc.red('nobody has verified it')}`];
  const { verdict, gates, checksTouched } = verification;
  const color = verdict === 'passed' ? pc.green : verdict === 'needs_review' ? pc.yellow : pc.red;
  const touched = checksTouched.slice(0, 10).map((path) => displayPath(path));
  return [
    `  ${color(verdict.replace('_', ' '))}`,
    ...gates.map(({ id, verdict: own, reason }) => `  ${own.padEnd(12)} ${id}  ${printable(reason)}`),
    ...(touched.length === 0 ? [] : [`  ${pc.yellow('it changes what is checked:')} ${touched.join(', ')}`]),
  ];
}

function approvalLines({ story }: Facts): readonly string[] {
  return [...story.decided.values()].map(({ category, verdict, by, reason }) => {
    const who = by.length === 0 ? 'nobody' : by.map((name) => printable(name)).join(', ');
    return `  ${printable(category)}  ${verdict} by ${who}: ${printable(reason).slice(0, 200)}`;
  });
}

function reviewLine({ verdict, by, reason, at }: Review): string {
  return `  ${verdict === 'accepted' ? pc.green(verdict) : pc.red(verdict)} by ${printable(by)} on ${at.slice(0, 16)}  ${printable(reason)}`;
}

/** What the rules make of it; how the lane has done lately counts when it is promoted. */
function demandLine(manifest: Manifest, facts: Facts): string {
  const { risk, verification, changes } = manifest;
  const asked = demandOf(facts.policy.policy, { risk, verdict: verification?.verdict, changes, lines: linesOf(facts) });
  const { demanded } = demandedBy(facts);
  const demand = demanded === undefined ? asked : strictest([asked, demanded]);
  return `${demandText(demand)} (${printable(demand.because.join('; '))})`;
}

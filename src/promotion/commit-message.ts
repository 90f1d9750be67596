import type { Manifest } from '../bundle/manifest.ts';
import { printable } from '../journal/printable.ts';
import type { Intended, RollingBack } from './ledger.ts';

/** What commits say. Words of people and sandboxes are one line each, so that none of them is taken for a trailer. */
export const promotionMessage = {
  /** Of a run, from what it was for. */
  of({ run, intent, changes }: Manifest): Pick<Intended, 'subject'> {
    const said = oneLine(intent ?? '').slice(0, subjectCharsMax);
    const leaves = changes.filter(({ before, after }) => (after ?? before)?.kind !== 'directory').length;
    return { subject: said === '' ? `Changes of run ${run} to ${leaves} files` : said };
  },

  text({ subject, run, bundle, policy, reviewers, verdict, demand }: Intended): string {
    const checked = `Verified (${verdict}), ${demand.action === 'auto' ? 'promoted by rule' : 'reviewed'}: ${demand.because.join('; ')}`;
    return textOf(subject, wrapped(oneLine(checked)), [
      `Glovebox-Run: ${run}`,
      `Glovebox-Bundle: ${bundle}`,
      `Glovebox-Policy: ${policy}`,
      ...reviewers.map((name) => `Reviewed-by: ${oneLine(name)}`),
    ]);
  },
};

export function rollbackText({ subject, run, bundle }: Intended, { reason, id }: RollingBack, commit: string): string {
  return textOf(`Revert "${subject}"`, wrapped(oneLine(reason)), [
    `Glovebox-Reverts: ${commit}`,
    `Glovebox-Promotion: ${id}`,
    `Glovebox-Run: ${run}`,
    `Glovebox-Bundle: ${bundle}`,
  ]);
}

const subjectCharsMax = 100;
const widthMax = 72;

function textOf(subject: string, body: string, trailers: readonly string[]): string {
  return `${subject}\n\n${body}\n\n${trailers.join('\n')}\n`;
}

function oneLine(text: string): string {
  return printable(text.replaceAll(/\s+/g, ' ').trim());
}

/** Indented: a line that looks like a trailer is none. */
function wrapped(text: string): string {
  const lines: string[] = [];
  for (const word of text.slice(0, 4000).split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < widthMax) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`  ${word}`);
  }
  return lines.join('\n');
}

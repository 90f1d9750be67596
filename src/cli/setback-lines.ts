import pc from 'picocolors';
import { printable } from '../journal/printable.ts';
import type { Setback } from '../promotion/rolled-back.ts';
import { displayPath } from '../workspace/changes/names.ts';

const shownMax = 10;

/** What went wrong before on files that are changed again. */
export function setbackLines(setbacks: readonly Setback[]): readonly string[] {
  const shown = setbacks.slice(0, shownMax).map(({ path, run, reason, at }) => {
    const what = `changed by run ${run.slice(0, 12)}, promoted, and rolled back on ${at.slice(0, 10)}`;
    return `  ${pc.yellow('rolled back before')} ${displayPath(path)}  ${what}: ${printable(reason).slice(0, 200)}`;
  });
  const more = setbacks.length - shown.length;
  return more > 0 ? [...shown, pc.dim(`  … ${more} more`)] : shown;
}

import type { Command } from 'commander';
import pc from 'picocolors';
import type { FingerprintView } from '../../contract/fingerprint-view.ts';
import type { RunDir } from '../../data-dir/data-dir.ts';
import { momentSections, sectionNames, type Fingerprint } from '../../drift/fingerprint.ts';
import { fingerprintHere } from '../../drift/here.ts';
import { findNewestFingerprint } from '../../drift/recorded.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { CliContext } from '../context.ts';
import { atOwnService, atRun } from '../run-place.ts';
import { print, printJson } from '../terminal.ts';
import { plural } from '../../plural.ts';

const shownMax = 4;

export function fingerprintCommand(program: Command, context: CliContext): void {
  program
    .command('fingerprint')
    .description('what the environment of a run is, section by section; of one that is not open here, what it last was')
    .argument('<run>', 'name, id, or the beginning of one; . for this machine and directory')
    .option('--json', 'all of it, as JSON')
    .action(async (name: string, { json = false }: { json?: boolean }) => {
      const view = name === '.' ? await fingerprintOfThisMachine(context) : await fingerprintOfRun(context, name);
      if (json) return printJson(view);
      for (const line of linesOf(view)) print(line);
    });
}

/** Of one that is open as it is now, where that can be asked; else what it last was. */
export async function fingerprintOfRun(context: CliContext, name: string): Promise<FingerprintView> {
  return atRun(context, name, (place) =>
    place.kind === 'directory' ? ofDirectory(place.dir) : place.run.fingerprint(),
  );
}

/** Of a run that this user's service has open as it is now; else what is on record. */
async function ofDirectory(dir: RunDir): Promise<FingerprintView> {
  const found = (await atOwnService(dir.id, (run) => run.fingerprint())) ?? (await findNewestFingerprint(dir));
  if (found !== undefined) return found;
  const message = `run ${dir.id} has no fingerprint on record: it was over before anybody could look; take one of an open run`;
  throw new RunnerError('not_found', message);
}

/** An engine is asked where there is one. */
export async function fingerprintOfThisMachine(context: CliContext): Promise<Pick<FingerprintView, 'fingerprint'>> {
  const facts = await context.connect().then(
    (engine) => engine.describe(),
    () => undefined,
  );
  return { fingerprint: await fingerprintHere(process.cwd(), process.env, facts) };
}

function linesOf({ fingerprint, ...of }: { readonly fingerprint: Fingerprint } & Partial<FingerprintView>): string[] {
  const taken = of.at === undefined ? 'of this machine' : `taken at ${of.at}`;
  const head = `${fingerprint.digest}  ${taken}, ${fingerprint.at}`;
  const sections = sectionNames.map((name) => {
    const section = fingerprint.sections[name];
    if (section === undefined) return pc.dim(`${name.padEnd(13)} nobody could look`);
    const entries = Object.entries(section.evidence);
    const count = entries.length + section.more;
    const shown = entries.slice(0, shownMax).map(([key, value]) => `${key}=${value.slice(0, 60)}`);
    const said = count > shownMax ? plural(count, 'entry', 'entries') : shown.join(', ');
    const digest = momentSections.has(name) ? '-'.repeat(12) : section.digest.slice(7, 19);
    return `${name.padEnd(13)} ${digest}  ${printable(said)}`;
  });
  return [head, ...sections];
}

import { RunnerError } from '../errors.ts';
import { printable } from '../journal/printable.ts';
import type { Facts } from './facts.ts';
import { memberNames } from './members.ts';
import { problem, type Problem } from './problem.ts';

/** Why nothing of a run leaves: its environment was not the expected one, and its policy says what follows from that. */
export function driftProblems({ story, verification }: Pick<Facts, 'story' | 'verification'>): readonly Problem[] {
  const at = (why: string): Problem => problem(memberNames.journal, 'drift.found', why);
  const failed = story.drifted.find(({ reaction }) => reaction === 'fail');
  if (failed !== undefined)
    return [at(`its environment has drifted (${failed.kind}: ${printable(failed.text)}): nothing of it is exported`)];
  const again = story.drifted.find(({ reaction }) => reaction === 'verify');
  if (again === undefined || verification?.verdict === 'passed') return [];
  const verdict =
    verification === undefined ? 'there is no verification' : `the verification says ${verification.verdict}`;
  return [
    at(
      `its environment has drifted (${again.kind}: ${printable(again.text)}): it has to pass a verification in a clean sandbox, and ${verdict}`,
    ),
  ];
}

/** What a replay has left was approved by nobody: the answers in it were given to what another run had made. */
export function replayProblems({ story }: Pick<Facts, 'story'>): readonly Problem[] {
  const { replays } = story.opened;
  if (replays === undefined) return [];
  return [
    problem(
      memberNames.journal,
      'run.opened.replays',
      `it was made to replay run ${replays.run}: nothing of it is exported`,
    ),
  ];
}

/** Throws `export_refused`. */
export function refuseReplay({ story }: Pick<Facts, 'story'>): void {
  const [refused] = replayProblems({ story });
  const of = story.opened.replays?.run ?? '';
  if (refused === undefined) return;
  throw new RunnerError(
    'export_refused',
    `run ${story.run} is not exported: ${refused.message}; glovebox export ${of}`,
  );
}

/** Throws `export_refused`. */
export function refuseDrifted(run: string, facts: Pick<Facts, 'story' | 'verification'>): void {
  const [refused] = driftProblems(facts);
  if (refused === undefined) return;
  const next = facts.story.drifted.some(({ reaction }) => reaction === 'fail')
    ? 'do its work again in another run'
    : `glovebox verify ${run} judges it`;
  throw new RunnerError('export_refused', `run ${run} is not exported: ${refused.message}; ${next}`);
}

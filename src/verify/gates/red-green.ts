import type { MakeAttempt } from '../attempt.ts';
import { judge } from '../judge.ts';
import type { Subject } from '../subject.ts';
import type { CommandJudged } from './command.ts';
import { builtin, type Judged } from './gate-result.ts';

/** Whether the tests of the candidate fail without the rest of it: only then do they show that it mends anything. */
export async function redGreenGate(
  { checks }: Pick<Subject, 'checks'>,
  asked: readonly CommandJudged[],
  attempt: MakeAttempt,
): Promise<Judged> {
  const failed = (reason: string): Judged =>
    builtin('red_green', 'failed', reason, [], { class: 'constraint_violation', attribution: 'agent' });
  if (checks.tests.length === 0)
    return failed('no test is added or changed; a fix comes with a test that fails without it');
  const evidence: string[] = [];
  for (const { gate, said } of asked) {
    if (said.get('candidate')?.verdict !== 'passed')
      return failed(`the gate ${gate.id} does not pass with the candidate`);
    const red = judge(await attempt({ gate, where: 'base_with_new_checks', how: 'same' }));
    if (red.verdict === 'passed')
      return failed(`the gate ${gate.id} passes on the base too, with the tests of the candidate: they show nothing`);
    if (red.verdict === 'broken' || red.outside !== undefined)
      return builtin('red_green', 'broken', `the gate ${gate.id} could not be judged on the base: ${red.reason}`, [], {
        class: red.cause?.class ?? 'infrastructure',
        attribution: red.cause?.attribution ?? 'infrastructure',
      });
    evidence.push(`gate ${gate.id}, on the base with the tests of the candidate: ${red.reason}`);
  }
  return builtin('red_green', 'passed', 'the tests of the candidate fail without it, and pass with it', evidence);
}

import { causeOfCode, type Cause } from '../../failures/causes.ts';
import { failureEvidence, type Failure } from '../../failures/failure.ts';
import type { EffectiveGate } from '../../policy/policy.ts';
import type { Attempt, MakeAttempt } from '../attempt.ts';
import { judge, type Said } from '../judge.ts';
import { boundText } from '../reruns/bound.ts';
import { classify } from '../reruns/classify.ts';
import { Observed } from '../reruns/observed.ts';
import { nextRerun } from '../reruns/plan.ts';
import type { Subject } from '../subject.ts';
import type { GateResult, Place, Stability, Way } from '../verification.ts';
import { line, lines, type Judged } from './gate-result.ts';

/** What a command of the policy came to, with what other gates want to know of its tests. */
export interface CommandJudged extends Judged {
  readonly gate: EffectiveGate;
  /** The first attempt in each place. */
  readonly said: ReadonlyMap<Place, Said>;
  /** Passes with its own checks alone. */
  readonly onlyWithItsOwn: boolean;
}

/**
 * Runs a command of the policy on the candidate. Promises:
 *  - what fails is run again, on the candidate and on its base, and a flake is named as one: it never passes;
 *  - what passes although the candidate says something about checks has to pass with those of the base too.
 */
export async function commandGate(
  gate: EffectiveGate,
  { rules, checks }: Pick<Subject, 'rules' | 'checks'>,
  attempt: MakeAttempt,
): Promise<CommandJudged> {
  const seen = new Observed();
  const said = new Map<Place, Said>();
  let last: Attempt | undefined;
  const look = async (where: Place, how: Way): Promise<Said> => {
    const made = await attempt({ gate, where, how });
    const one = judge(made);
    if (where === 'candidate' && how === 'same' && one.verdict !== 'passed') last = made;
    const trouble = made.kind === 'ended' && (made.networkTrouble === true || made.egressDenied.length > 0);
    if (one.verdict !== 'broken') seen.add(where, how, one.verdict === 'failed', trouble);
    if (!said.has(where)) said.set(where, one);
    return one;
  };
  const first = await look('candidate', 'same');
  if (first.verdict === 'passed') {
    // A report is compared with that of the base, so that no test goes missing.
    if (gate.report !== undefined) await look('base', 'same');
    const theirs = checks.any ? await look('base_checks', 'same') : undefined;
    return passed(gate, first, { said, seen, theirs });
  }
  if (first.verdict === 'broken') return broken(gate, first, said);
  for (let next = nextRerun(gate, rules.reruns, seen); next !== undefined; next = nextRerun(gate, rules.reruns, seen)) {
    const one = await look(next.where, next.how);
    if (one.verdict === 'broken' && one.cause?.class === 'infrastructure') return broken(gate, one, said);
    // On the base it may not even begin: that counts as failing there.
    if (one.verdict === 'broken') seen.add(next.where, next.how, true, false);
  }
  return failed(gate, { first, said, tail: tailOf(last), stability: classify(seen) });
}

function passed(
  gate: EffectiveGate,
  first: Said,
  { said, seen, theirs }: { said: ReadonlyMap<Place, Said>; seen: Observed; theirs: Said | undefined },
): CommandJudged {
  const same = seen.of('candidate', 'same');
  const stability: Stability = {
    verdict: 'stable_pass',
    attempts: seen.list(),
    bound: boundText(same.failed, same.runs),
  };
  const common = { gate, said, onlyWithItsOwn: theirs !== undefined && theirs.verdict !== 'passed' };
  if (theirs === undefined || theirs.verdict === 'passed') {
    const also = theirs === undefined ? '' : '; so it does with the checks of the base';
    return {
      ...common,
      result: resultOf(gate, 'passed', `${first.reason}${also}`, { first, stability }),
      failures: [],
    };
  }
  const reason = `it passes only with checks that the candidate changes; with those of the base: ${theirs.reason}`;
  const cause: Cause = { class: 'constraint_violation', attribution: 'agent', retryable: false };
  return {
    ...common,
    result: resultOf(gate, 'needs_review', reason, { first, stability }),
    failures: [failureOf(gate, cause, reason)],
  };
}

function failed(
  gate: EffectiveGate,
  {
    first,
    said,
    tail,
    stability,
  }: { first: Said; said: ReadonlyMap<Place, Said>; tail: readonly string[]; stability: Stability },
): CommandJudged {
  const base = said.get('base');
  const { verdict, cause, because } = verdictOf(first, base, stability);
  const reason = because === '' ? first.reason : `${because}: ${first.reason}`;
  return {
    gate,
    said,
    onlyWithItsOwn: false,
    result: resultOf(gate, verdict, reason, { first, stability, evidence: tail }),
    failures: [failureOf(gate, cause, reason)],
  };
}

interface Verdict {
  readonly verdict: 'failed' | 'needs_review';
  readonly cause: Cause;
  readonly because: string;
}

function verdictOf(first: Said, base: Said | undefined, { verdict, bound }: Stability): Verdict {
  const cause = first.cause ?? causeOfCode('internal');
  switch (verdict) {
    case 'stable_pass':
    case 'stable_fail':
      // What the base has enough of, or is not refused, the candidate has made too much of.
      return {
        verdict: 'failed',
        cause: base?.verdict === 'passed' ? { ...cause, attribution: attributionOf(cause) } : cause,
        because: '',
      };
    case 'failed_before': {
      const before: Cause = {
        ...(base?.cause ?? cause),
        attribution: first.outside === undefined ? 'environment' : 'policy',
      };
      if (failsTheSame(first, base))
        return { verdict: 'needs_review', cause: before, because: 'the base fails it in the same way' };
      return {
        verdict: 'failed',
        cause: before,
        because: 'the base fails it too, and nothing shows that the candidate fails no more',
      };
    }
    case 'flaky_order':
    case 'flaky_network':
    case 'flaky_load':
    case 'flaky_unknown':
      return {
        verdict: 'needs_review',
        cause: { class: 'flaky_verifier', attribution: 'environment', retryable: true },
        because: `${verdict} (${bound})`,
      };
  }
}

function attributionOf({ attribution, class: kind }: Cause): Cause['attribution'] {
  return kind === 'budget' || kind === 'permission_mismatch' || kind === 'tool_timeout' ? 'agent' : attribution;
}

/** Nothing fails with the candidate that did not fail before; only a report can show that. */
function failsTheSame({ tests: ours }: Said, base: Said | undefined): boolean {
  const theirs = base?.tests;
  if (ours === undefined || theirs === undefined || ours.failed === 0 || ours.failed > ours.failing.length)
    return false;
  return ours.failing.every((name) => theirs.failing.includes(name)) && ours.passed >= theirs.passed;
}

function broken(gate: EffectiveGate, said: Said, all: ReadonlyMap<Place, Said>): CommandJudged {
  return {
    gate,
    said: all,
    onlyWithItsOwn: false,
    result: resultOf(gate, 'broken', said.reason, { first: said }),
    failures: [failureOf(gate, said.cause ?? causeOfCode('internal'), said.reason)],
  };
}

function resultOf(
  { id, required }: EffectiveGate,
  verdict: GateResult['verdict'],
  reason: string,
  { first, stability, evidence = [] }: { first: Said; stability?: Stability; evidence?: readonly string[] },
): GateResult {
  return {
    id,
    kind: 'command',
    required,
    verdict,
    reason: line(reason),
    evidence: lines(evidence),
    ...(first.tests === undefined ? {} : { tests: first.tests }),
    ...(stability === undefined ? {} : { stability }),
  };
}

function failureOf({ id }: EffectiveGate, cause: Cause, evidence: string): Failure {
  return { ...cause, where: `gate ${id}`, evidence: failureEvidence(evidence) };
}

function tailOf(attempt: Attempt | undefined): readonly string[] {
  return attempt?.kind === 'ended' ? attempt.tail : [];
}

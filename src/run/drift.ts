import { compareFingerprints, type Comparison } from '../drift/compare.ts';
import { inLikelihood, shown, type DriftFinding } from '../drift/findings.ts';
import type { Fingerprint } from '../drift/fingerprint.ts';
import { againstLock, type ParsedLock } from '../drift/lock.ts';
import { lossFinding, outsideFindings, unlookedFinding, unsealedFinding } from '../drift/outside.ts';
import { reactTo, strictestOf, type FoundData } from '../drift/reaction.ts';
import { isRunnerError, messageOf, RunnerError } from '../errors.ts';
import type { ContainerReading } from '../engine/reading.ts';
import type { Journal } from '../journal/writer.ts';
import { noDriftRules, type EffectiveDrift } from '../policy/policy.ts';
import type { SandboxLoss } from '../sandbox/loss.ts';
import type { CallEnd } from '../sandbox/spec.ts';
import type { RunFingerprints } from './fingerprints.ts';
import type { Refusal } from './gate.ts';

export interface RunDriftParts {
  /** Absent: what holds where no policy says anything. */
  readonly rules: EffectiveDrift | undefined;
  readonly journal: Pick<Journal, 'append'>;
  /** Ends the run. */
  readonly end: (reason: string) => void;
}

/** What is there once its sandbox is. */
export interface DriftMeans {
  /** The run goes on at high risk; a refusal where its sandbox cannot be what that asks for. */
  readonly reclassify: (by: string) => Promise<Refusal | undefined>;
  /** Looks from the inside, and the one at its opening. */
  readonly fingerprints: Pick<RunFingerprints, 'opened' | 'begun' | 'take'>;
}

type When = Pick<FoundData, 'at' | 'against'>;

/**
 * Whether the environment of one run is still the expected one, and what follows where it is not. Promises:
 *  - what is found is on record before its reaction takes hold, and once: the same thing is not found again;
 *  - what stops a run stops it for good: no later look lets a call in again;
 *  - where it cannot be recorded, no call is let in;
 *  - a look that the policy asks for and that nobody could take is a finding too, with the strictest reaction that the policy has.
 */
export class RunDrift {
  readonly #parts: RunDriftParts;
  readonly #rules: EffectiveDrift;
  readonly #known = new Set<string>();
  #means: DriftMeans | undefined;
  #isClockHeld = false;
  #refusal: Refusal | undefined;
  #failed = false;
  /** Commands that have ended since it was looked, and who they were. */
  #since: string[] = [];
  #looking: Promise<void> = Promise.resolve();

  constructor(parts: RunDriftParts) {
    this.#parts = parts;
    this.#rules = parts.rules ?? noDriftRules;
  }

  /** Before anything is looked at from the inside, and before any call. */
  begin(means: DriftMeans): void {
    this.#means = means;
  }

  /** Under the runner before. */
  restore(found: readonly FoundData[]): void {
    for (const { findings } of found) {
      for (const finding of findings) this.#known.add(nameOf(finding));
      this.#refuse(decisiveOf(findings));
    }
  }

  /** Nothing of it is to be exported. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Why no call is let in any more. A look that a call has made due is waited for. */
  async halted(): Promise<Refusal | undefined> {
    await this.#looking;
    return this.#refusal;
  }

  /** A layer of its policy says something of drift. */
  get isRuled(): boolean {
    return this.#parts.rules !== undefined;
  }

  looksAt(check: EffectiveDrift['check'][number]): boolean {
    return this.#rules.check.includes(check);
  }

  /**
   * Before any call. With a lock it is waited for the first look, and held against it: throws `policy_unenforceable` where that is to
   * fail the run. Without one, a policy that speaks of drift has the look begun.
   */
  async opened(lock: ParsedLock | undefined): Promise<void> {
    const { fingerprints } = this.#need();
    if (lock === undefined || !this.looksAt('open')) {
      if (this.isRuled) void fingerprints.opened();
      return;
    }
    const kept = await fingerprints.opened();
    await this.#inTurn(() => this.#holdLock(lock, kept?.fingerprint));
    if (!this.#failed) return;
    throw new RunnerError(
      'policy_unenforceable',
      `${this.#refusal?.reason ?? 'The environment differs'}. Build it as glovebox.lock says, or write the lock again: glovebox drift --write-lock RUN.`,
    );
  }

  async #holdLock({ lock, digest }: ParsedLock, taken: Fingerprint | undefined): Promise<void> {
    const when = { at: 'open', against: 'lock' } as const;
    if (taken === undefined) return this.#unlooked('no fingerprint of it could be taken', when);
    const { expected, found } = againstLock(lock, taken);
    const comparison = compareFingerprints(expected, found, { clockSkewMs: this.#rules.clockSkewMs });
    await this.#settle(comparison, when, [digest, taken.digest]);
  }

  /** A command has ended: what it has left behind, and what it ran out of, its end tells already. Never rejects. */
  async called(callId: string, end: CallEnd): Promise<void> {
    if (!this.looksAt('after_calls')) return;
    const findings = endFindings(callId, end);
    this.#since.push(callId);
    const due = this.#since.length >= this.#rules.afterCallsEvery;
    const look = async (): Promise<void> => {
      await this.#record({ findings, more: {} }, { at: 'call', against: 'open' });
      if (due) await this.#look('call');
    };
    if (findings.length > 0 || due) await this.#inTurn(look);
  }

  /** Nothing runs any more: the last look from the inside. Never rejects. */
  async closing(): Promise<void> {
    if (this.looksAt('close')) await this.#inTurn(() => this.#look('close'));
  }

  /** From the outside, as the engine tells it: how it was, and how it is now. Never rejects. */
  async outside(before: ContainerReading, now: ContainerReading | undefined): Promise<void> {
    await this.#outside(outsideFindings(before, now));
  }

  /** It was to be the last look, and nobody answered. */
  async unlooked(error: unknown): Promise<void> {
    await this.#outside([unlookedFinding(messageOf(error))]);
  }

  /** Nobody here has ended it, or it has a way out that it was proven not to have. */
  async lost({ code, reason }: SandboxLoss): Promise<void> {
    if (code === 'sandbox_lost') await this.#outside([lossFinding(reason)]);
    if (code === 'isolation_unproven') await this.#outside([unsealedFinding(reason)]);
  }

  async #outside(findings: readonly DriftFinding[]): Promise<void> {
    if (findings.length === 0) return;
    await this.#inTurn(() =>
      this.#record({ findings: inLikelihood(findings), more: {} }, { at: 'outside', against: 'asked' }),
    );
  }

  async #look(at: 'call' | 'close'): Promise<void> {
    const calls = this.#since.splice(0);
    const { fingerprints } = this.#need();
    const when = { at, against: 'open' } as const;
    const kept = await fingerprints.begun();
    if (kept === undefined && !this.isRuled) return;
    if (kept !== undefined) await this.#holdClock(kept.fingerprint);
    const taken = await fingerprints.take(at).catch((error: unknown) => ({ error }));
    if ('error' in taken) {
      if (isGone(taken.error)) return;
      await this.#unlooked(messageOf(taken.error), when);
      throw taken.error;
    }
    if (kept === undefined) return this.#unlooked('nobody knows how it was when the run was opened', when);
    const [opened, found] = [kept.fingerprint, taken.fingerprint];
    const { findings, more } = compareFingerprints(opened, found, { clockSkewMs: this.#rules.clockSkewMs });
    const [only] = calls;
    // One call since the last look: nobody else can have done it.
    const callId = at === 'call' && calls.length === 1 ? only : undefined;
    const named = findings.map((finding) => (callId === undefined ? finding : { ...finding, callId }));
    await this.#settle({ findings: named, more }, when, [opened.digest, found.digest]);
  }

  /** The one at the opening is held against the runner's; the later ones against that. */
  async #holdClock({ sections }: Fingerprint): Promise<void> {
    if (this.#isClockHeld || sections.clock === undefined) return;
    this.#isClockHeld = true;
    const { clockSkewMs } = this.#rules;
    const clock = compareFingerprints({ sections: {} }, { sections: { clock: sections.clock } }, { clockSkewMs });
    await this.#record(clock, { at: 'open', against: 'open' });
  }

  #need(): DriftMeans {
    if (this.#means !== undefined) return this.#means;
    throw new RunnerError('internal', 'drift was looked for before the run was put together');
  }

  async #settle(
    comparison: Pick<Comparison, 'findings' | 'more'>,
    when: When,
    [expected, found]: readonly [Fingerprint['digest'], Fingerprint['digest']],
  ): Promise<void> {
    if (comparison.findings.length > 0) return this.#record(comparison, when);
    await this.#parts.journal.append({ type: 'drift.held', data: { ...when, expected, found } });
  }

  /** What it would have shown may be whatever the policy has the strictest reaction for; who is inside may be why nobody could look. */
  async #unlooked(reason: string, when: When): Promise<void> {
    const engine = strictestOf(Object.values(this.#rules.reactions));
    const reactions = { ...this.#rules.reactions, engine };
    await this.#record({ findings: [unlookedFinding(reason)], more: {} }, when, reactions);
  }

  async #record(
    { findings, more }: Pick<Comparison, 'findings' | 'more'>,
    when: When,
    reactions = this.#rules.reactions,
  ): Promise<void> {
    const fresh = findings.filter((finding) => !this.#known.has(nameOf(finding)));
    const data = reactTo({ findings: fresh, more }, { reactions }, when);
    if (data === undefined) return;
    for (const finding of fresh) this.#known.add(nameOf(finding));
    await this.#parts.journal.append({ type: 'drift.found', data });
    await this.#react(decisiveOf(data.findings), when);
  }

  async #react(finding: Found | undefined, { at }: When): Promise<void> {
    if (finding?.reaction === 'reclassify') this.#refusal ??= await this.#means?.reclassify(`drift.${finding.kind}`);
    this.#refuse(finding);
    if (finding?.reaction === 'fail' && at !== 'open') this.#parts.end(`drift: ${finding.text}`);
  }

  #refuse(finding: Found | undefined): void {
    if (finding?.reaction !== 'stop' && finding?.reaction !== 'fail') return;
    this.#failed ||= finding.reaction === 'fail';
    this.#refusal ??= {
      kind: 'refused',
      rule: `drift.${finding.kind}`,
      reason: `the environment is no longer the one that was expected: ${finding.text}`,
      hint: 'No further call is let in. Close the run and open another one, in an environment that is as it was.',
    };
  }

  /** One look after the other. What could not be recorded has nothing go on. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#looking.then(work).catch((error: unknown) => {
      this.#refusal ??= {
        kind: 'refused',
        rule: 'gate.drift',
        reason: `the gate "drift" is broken, so nothing passes it: ${messageOf(error)}`,
        hint: 'No rule denies this; whoever runs Glovebox has to mend it.',
      };
    });
    this.#looking = turn;
    await turn;
  }
}

type Found = FoundData['findings'][number];

/** The likeliest of those with the strictest reaction. */
function decisiveOf(findings: readonly Found[]): Found | undefined {
  const strictest = strictestOf(findings.map(({ reaction }) => reaction));
  return findings.find(({ reaction }) => reaction === strictest);
}

/** What makes it the same finding, whoever sees it. */
function nameOf({
  kind,
  key,
  found,
}: {
  readonly kind: string;
  readonly key: string;
  readonly found?: string | undefined;
}): string {
  return JSON.stringify([kind, shown(key), found === undefined ? null : shown(found)]);
}

/** What is gone cannot be looked at; that is told elsewhere. */
function isGone(error: unknown): boolean {
  return isRunnerError(error, 'sandbox_lost') || isRunnerError(error, 'run_not_open');
}

function endFindings(callId: string, { outcome, descendantsAlive }: CallEnd): readonly DriftFinding[] {
  const findings: DriftFinding[] = [];
  const add = (kind: DriftFinding['kind'], key: string, found: string, text: string): void => {
    findings.push({ kind, source: 'calls', key, expected: undefined, found, text, callId });
  };
  if (outcome.kind === 'out_of_memory')
    add('resource_pressure', `${callId} memory`, outcome.kind, 'memory ran out: its processes were killed');
  if (outcome.kind === 'pids_limit')
    add(
      'resource_pressure',
      `${callId} processes`,
      outcome.kind,
      `the limit of ${outcome.limit} processes was reached`,
    );
  if (outcome.kind === 'disk_full')
    add('resource_pressure', `${callId} disk`, outcome.kind, `no room was left on ${outcome.where.join(', ')}`);
  if (descendantsAlive > 0)
    add(
      'process_left',
      `${callId} processes`,
      `${descendantsAlive}`,
      `${descendantsAlive} processes of call ${callId} still run: they may hold ports, files and locks`,
    );
  return inLikelihood(findings);
}

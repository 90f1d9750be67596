import type { DataDir } from '../data-dir/data-dir.ts';
import { causeOfCode } from '../failures/causes.ts';
import { RunnerError } from '../errors.ts';
import { newestIdIn } from '../data-dir/names-in.ts';
import { newId } from '../ids.ts';
import { riskLevels, type RiskLevel } from '../policy/language/fields.ts';
import type { Runner } from '../runner.ts';
import { attemptName, type MakeAttempt, type MadeRun } from './attempt.ts';
import { commandGate, type CommandJudged } from './gates/command.ts';
import { diffQualityGate } from './gates/diff-quality.ts';
import { executionBearingGate } from './gates/execution-bearing.ts';
import { builtin, line, type Judged } from './gates/gate-result.ts';
import { redGreenGate } from './gates/red-green.ts';
import { scopeGate } from './gates/scope.ts';
import { secretsGate } from './gates/secrets.ts';
import { testsKeptGate } from './gates/tests-kept.ts';
import { Sandboxes } from './sandboxes.ts';
import { findSubject, type OtherBase, type Subject } from './subject.ts';
import { pathsMax, verdictOf, type GateResult, type Verification } from './verification.ts';
import { writeVerification, type KeptVerification } from './verification-files.ts';

export interface VerifyOptions {
  /** One gate has been judged. */
  readonly onGate?: (result: GateResult) => void;
  /** One attempt begins: `unit/candidate/same`. */
  readonly onAttempt?: (name: string) => void;
  /** What kept an attempt from being made, in the words of this machine: they are not in the verification. */
  readonly onTrouble?: (text: string) => void;
  /** Gives up: nothing is written, and its reason is thrown. */
  readonly signal?: AbortSignal;
  /** What it will be called; default: a new one, of the time when it ends. */
  readonly id?: string;
}

/**
 * Judges the candidate of a closed run, and keeps what was found. No agent has a part in it: the gates are those of the run's
 * policy and those that every candidate passes through, and each command runs in a sandbox of its own. A gate that breaks denies.
 * Throws what keeps it from beginning (`journal_broken`, `run_not_open`, `run_not_found`), and why the record could not be kept.
 */
export async function verifyRun(
  parts: { readonly runner: Runner; readonly dataDir: DataDir },
  idOrPrefix: string,
  options: VerifyOptions = {},
): Promise<KeptVerification> {
  const subject = await findSubject(parts.dataDir, idOrPrefix);
  const judged = await judgeSubject(parts.runner, subject, options);
  const id = options.id ?? (await newestIdIn(subject.dir.verificationsDir));
  return await writeVerification(subject.dir, { ...judged, id });
}

/** The same of its changes laid over another base, such as what a repository has now. Nothing is kept of it with the run. */
export async function verifyOnto(
  parts: { readonly runner: Runner; readonly dataDir: DataDir },
  idOrPrefix: string,
  onto: OtherBase,
  options: VerifyOptions = {},
): Promise<Verification> {
  return judgeSubject(parts.runner, await findSubject(parts.dataDir, idOrPrefix, onto), options);
}

async function judgeSubject(runner: Runner, subject: Subject, options: VerifyOptions): Promise<Verification> {
  const sandboxes = new Sandboxes(runner, subject, options.signal);
  const attempt: MakeAttempt = async (request) => {
    const name = attemptName(request);
    options.onAttempt?.(name);
    const made = await sandboxes.attempt(request);
    if (made.kind === 'unavailable') options.onTrouble?.(`${name}: ${made.message}`);
    return made;
  };
  const judged = await judgeAll(subject, attempt, options);
  options.signal?.throwIfAborted();
  return verificationOf(subject, judged, sandboxes.made);
}

/** What was found, gate by gate; for one subject, with whatever makes attempts. */
async function judgeAll(
  subject: Subject,
  attempt: MakeAttempt,
  { onGate, signal }: Pick<VerifyOptions, 'onGate' | 'signal'> = {},
): Promise<readonly Judged[]> {
  const judged: Judged[] = [];
  const add = <T extends Judged>(one: T): T => {
    judged.push(one);
    onGate?.(one.result);
    return one;
  };
  const kept = async (id: string, look: () => Judged | Promise<Judged>): Promise<void> => {
    signal?.throwIfAborted();
    add(await whole(id, look));
  };
  await kept('scope', () => scopeGate(subject));
  await kept('secrets', () => secretsGate(subject));
  await kept('execution_bearing', () => executionBearingGate(subject));
  await kept('diff_quality', () => diffQualityGate(subject));
  const commands: CommandJudged[] = [];
  for (const gate of subject.rules.gates) {
    signal?.throwIfAborted();
    commands.push(add(await commandGate(gate, subject, attempt)));
  }
  await kept('tests_kept', () => testsKeptGate(subject, commands));
  const red = commands.filter(({ gate }) => gate.redGreen);
  if (red.length > 0) await kept('red_green', () => redGreenGate(subject, red, attempt));
  return judged;
}

/** A gate that could not be judged has not passed. What is no fault of ours to be told (an abort, a bug) goes on. */
async function whole(id: string, look: () => Judged | Promise<Judged>): Promise<Judged> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof RunnerError)) throw error;
    const { class: kind, attribution } = causeOfCode(error.code);
    return builtin(id, 'broken', `it could not be judged (${error.code})`, [], { class: kind, attribution });
  }
}

function verificationOf(
  { snapshot, checks, risk }: Subject,
  judged: readonly Judged[],
  runs: readonly MadeRun[],
): Verification {
  const gates = judged.map(({ result }) => result);
  const { base } = snapshot;
  return {
    v: 1,
    id: newId(),
    run: snapshot.run,
    at: new Date().toISOString(),
    candidate: snapshot.digest,
    base: { digest: base.digest, ...(base.commit === undefined ? {} : { commit: base.commit }) },
    policy: snapshot.policy.digest,
    image: snapshot.image,
    verdict: verdictOf(gates),
    risk: raised(risk, checks.touched, judged),
    checksTouched: checks.touched.slice(0, pathsMax),
    gates,
    failures: judged.flatMap(({ failures }) => failures),
    runs: [...runs],
  };
}

/** Who changes what is checked raises the risk by a step; who passes by that alone, to high at least. */
function raised(from: RiskLevel, touched: readonly string[], judged: readonly Judged[]): Verification['risk'] {
  const own = judged.filter((one) => 'onlyWithItsOwn' in one && one.onlyWithItsOwn === true);
  const because = [
    ...(touched.length === 0
      ? []
      : [line(`${touched.length} existing checks are changed: ${touched.slice(0, 5).join(', ')}`)]),
    ...own.map(({ result }) => line(`the gate ${result.id} passes only with checks that the candidate changes`)),
  ];
  const step = touched.length === 0 ? 0 : 1;
  const least = own.length === 0 ? 0 : riskLevels.indexOf('high');
  const to = riskLevels[Math.min(riskLevels.length - 1, Math.max(riskLevels.indexOf(from) + step, least))];
  return { from, to: to ?? 'critical', because };
}

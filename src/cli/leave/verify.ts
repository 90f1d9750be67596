import type { Command } from 'commander';
import pc from 'picocolors';
import type { RemoteRun } from '../../client/client.ts';
import { VerificationState } from '../../contract/verification-view.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { displayPath } from '../../workspace/changes/names.ts';
import { Runner } from '../../runner.ts';
import { GateResult, Verification, type Verdict } from '../../verify/verification.ts';
import { verifyRun } from '../../verify/verify.ts';
import { answered } from './answered.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { Interruption } from '../interruption.ts';
import { atRun } from '../run-place.ts';
import { print, printJson, say } from '../terminal.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

interface Verified {
  readonly digest: string;
  readonly verification: Verification;
}

/** Of `glovebox verify`: what the gates found, apart from what could not be found out. */
const exitOf: Readonly<Record<Verdict, number>> = {
  passed: exitCodes.ok,
  failed: exitCodes.failed,
  needs_review: 3,
  broken: 4,
};

const shownMax = 12;

export function verifyCommand(program: Command, context: CliContext): void {
  program
    .command('verify')
    .description(
      'judge what a closed run proposes, without an agent: in clean sandboxes, by the gates of its policy. Exit code 0: passed; 1: failed; 3: a person has to look; 4: a gate is broken; 125: it could not begin',
    )
    .argument('<run>', 'name, id, or the beginning of one')
    .option('-q, --quiet', 'no progress')
    .option('--json', 'the verification as JSON')
    .action(async (name: string, options: Options) => {
      const kept = await atRun(context, name, async (place) => {
        if (place.kind === 'service') return await verifyThere(place.run, options);
        return await verifyHere(context, place.dir.id, options);
      });
      if (options.json === true) printJson({ digest: kept.digest, verification: kept.verification });
      else for (const text of closingLines(kept)) print(text);
      throw new Exit(exitOf[kept.verification.verdict]);
    });
}

async function verifyHere(context: CliContext, run: string, { json, quiet }: Options): Promise<Verified> {
  const interruption = new Interruption('the verification');
  const told = json === true || quiet === true;
  try {
    const [engine, dataDir, reach] = await Promise.all([context.connect(), context.openDataDir(), context.reach()]);
    const runner = await Runner.create(engine, dataDir, { ...reach, fingerprints: true });
    try {
      return await verifyRun({ runner, dataDir }, run, {
        signal: interruption.signal,
        onTrouble: (text) => say(`${pc.red('glovebox:')} ${printable(text)}`),
        ...(told
          ? {}
          : {
              onAttempt: (attempt) => say(pc.dim(`  … ${attempt}`)),
              onGate: (result) => gateLines(result).forEach((text) => say(text)),
            }),
      });
    } finally {
      await runner.close();
    }
  } finally {
    interruption.end();
  }
}

/** By the service that has it; Ctrl-C gives it up there too. Always a new one. */
async function verifyThere(run: RemoteRun, { json, quiet }: Options): Promise<Verified> {
  const interruption = new Interruption('the verification');
  let shown = 0;
  let attempt: string | null = null;
  const onStep = (state: VerificationState): void => {
    if (json === true || quiet === true) return;
    for (const result of state.gates.slice(shown)) answered(GateResult, result, 'a gate');
    for (const result of state.gates.slice(shown)) gateLines(result).forEach((text) => say(text));
    shown = state.gates.length;
    if (state.attempt !== null && state.attempt !== attempt) say(pc.dim(`  … ${printable(state.attempt)}`));
    attempt = state.attempt;
  };
  try {
    const { signal } = interruption;
    const after = (await run.verifications(signal)).verifications[0]?.id;
    const ended = await run.verify({ after, onStep, signal });
    const { digest, problem } = answered(VerificationState, ended, 'a verification');
    const verification = ended.verification && answered(Verification, ended.verification, 'a verification');
    if (digest !== null && verification !== null) return { digest, verification };
    const why = problem === null ? 'somebody has given it up' : problem.detail;
    throw new RunnerError(
      problem?.code ?? 'conflict',
      `run ${run.id} was not verified: ${why}; glovebox verify it again`,
    );
  } finally {
    interruption.end();
  }
}

const colors: Readonly<Record<Verdict, (text: string) => string>> = {
  passed: pc.green,
  needs_review: pc.yellow,
  failed: pc.red,
  broken: pc.red,
};

/** A gate, and why; everything in a result of this machine is printable already, and a service may be anybody's. */
function gateLines({ id, verdict, required, reason, evidence, stability }: GateResult): readonly string[] {
  const head = `  ${colors[verdict](verdict.padEnd(12))} ${id}${required ? '' : ' (not required)'}  ${printable(reason)}`;
  if (verdict === 'passed') return [head];
  const shown = evidence.slice(0, shownMax).map((text) => pc.dim(`      │ ${printable(text)}`));
  const more =
    evidence.length > shownMax ? [pc.dim(`      │ … ${evidence.length - shownMax} more; --json has them`)] : [];
  const counted = stability === undefined ? [] : [pc.dim(`      ${stability.verdict}: ${printable(stability.bound)}`)];
  return [head, ...shown, ...more, ...counted];
}

function closingLines({ verification, digest }: Verified): readonly string[] {
  const { verdict, run, risk, checksTouched, runs } = verification;
  const touched = checksTouched.slice(0, shownMax).map((path) => displayPath(path));
  const more = checksTouched.length > touched.length ? ', …' : '';
  return [
    `${pc.bold(`run ${run}`)}  ${colors[verdict](verdict.replace('_', ' '))}, ${plural(verification.gates.length, 'gate')}, ${plural(runs.length, 'sandbox', 'sandboxes')}`,
    ...(touched.length === 0 ? [] : [`  it changes what is checked: ${touched.join(', ')}${more}`]),
    ...(risk.from === risk.to ? [] : [`  risk ${risk.to}, raised from ${risk.from}`]),
    pc.dim(`  verification ${digest}`),
    ...next(verification).map((text) => pc.dim(`  ${text}`)),
  ];
}

/** What to do now. */
function next({ verdict, run, failures }: Verification): readonly string[] {
  const short = run.slice(0, 12);
  switch (verdict) {
    case 'passed':
      return [`next: glovebox export ${short}`];
    case 'needs_review':
      return [`next: look at what is said above and at glovebox diff ${short}; then glovebox export ${short}`];
    case 'failed':
      return [
        `next: glovebox run --fork-of ${short} -- … goes on from here; then glovebox verify that run`,
        ...causes(failures),
      ];
    case 'broken':
      return [
        failures.some(({ retryable }) => retryable)
          ? `next: glovebox verify ${short} again; what broke may be over`
          : `next: mend what broke (the gate's command, the policy, this machine), then glovebox verify ${short} again`,
        ...causes(failures),
      ];
  }
}

function causes(failures: Verification['failures']): readonly string[] {
  return failures.slice(0, shownMax).map(({ where, class: kind, attribution, retryable }) => {
    const again = retryable ? ', may come out otherwise when it is done again' : '';
    return `${where}: ${kind.replaceAll('_', ' ')} (${attribution}${again})`;
  });
}

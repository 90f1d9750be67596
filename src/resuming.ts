import { readFile } from 'node:fs/promises';
import { Approvals } from './approvals/approvals.ts';
import { Budget } from './budget/budget.ts';
import type { RunDir } from './data-dir/data-dir.ts';
import { SealWatch } from './egress/seal-watch.ts';
import { isRunnerError, RunnerError } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { inJournal, seal, type Sealed } from './fencing.ts';
import type { EntryData } from './journal/entry.ts';
import { Journal } from './journal/writer.ts';
import { momentNow } from './machine-clock.ts';
import { EgressRules } from './policy/decisions/egress-rules.ts';
import { parsePolicyRecord } from './policy/policy-record.ts';
import type { LoadedPolicy } from './policy/policy.ts';
import { Answers } from './run/answers.ts';
import { contextsOf } from './run/contexts.ts';
import { RunDrift } from './run/drift.ts';
import { OutsideWatch } from './run/outside-watch.ts';
import { RunControl } from './run/control.ts';
import { budgetLimits, onRiskOf, RunGate } from './run/gate.ts';
import { KeptArguments } from './run/kept-arguments.ts';
import { keepRun, readKeptRun, runMsOf, type KeptRun } from './run/kept-run.ts';
import { LeftCalls } from './run/left-calls.ts';
import { Run } from './run/run.ts';
import { SessionFiles } from './run/session-files.ts';
import { RunStory } from './run/story.ts';
import { placementFor } from './run/workspace.ts';
import { approvalOptions, durabilityOf, fingerprintsOf, waitingAfterMs, type RunnerParts } from './runner-parts.ts';
import { Sandbox } from './sandbox/sandbox.ts';
import { digestOfTree, parseTree } from './workspace/manifest.ts';
import { checkoutIn } from './workspace/base/git-listing.ts';
import { Scope } from './workspace/scope/scope.ts';

export interface ResumeOptions {
  readonly onProgress?: (line: string) => void;
}

/** What is known of the run before its sandbox is joined. */
interface Found {
  readonly dir: RunDir;
  readonly kept: KeptRun;
  readonly story: RunStory;
  readonly opened: EntryData<'run.opened'>;
  readonly started: EntryData<'sandbox.started'>;
  readonly policy: LoadedPolicy;
}

/**
 * A run whose runner died, put together again from its directory, its journal and its sandbox. Promises:
 *  - what holds is what held before: policy by digest, budget, what was taken away, what people were asked and have answered;
 *  - no call is made twice and no byte of output is lost or doubled; what became of a call that nobody can tell is `unknown`;
 *  - nothing is let out before the sandbox is proven to be sealed again;
 *  - who dies in the middle of it leaves what can be resumed, by the same steps.
 */
export async function resumeRun(parts: RunnerParts, id: string, options: ResumeOptions): Promise<Run> {
  const dir = parts.dataDir.runDir(id);
  const kept = await readKeptRun(dir);
  const counted = countedOn(kept);
  const { journal } = await Journal.resume(dir.journal, { ...durabilityOf(parts.options), ...counted });
  try {
    await failpoint('resume.taken');
    const found = await find(dir, kept);
    options.onProgress?.(`resuming run ${id} in sandbox ${found.started.sandbox}`);
    return await join(parts, found, journal);
  } catch (error) {
    await journal.close();
    throw error;
  }
}

function countedOn(kept: KeptRun): { readonly runMs?: number } {
  const runMs = runMsOf(kept, momentNow());
  return runMs === undefined ? {} : { runMs };
}

async function find(dir: RunDir, kept: KeptRun): Promise<Found> {
  const story = await RunStory.read(dir.journal);
  const { opened, started } = story;
  if (opened === undefined || started === undefined)
    throw new RunnerError('sandbox_lost', `run ${dir.id} cannot be resumed: its sandbox had not been started`);
  if (opened.verifies !== undefined)
    throw new RunnerError(
      'sandbox_lost',
      `run ${dir.id} was made to verify run ${opened.verifies.run}, and nobody waits for it any more; verify that run again`,
    );
  if (opened.replays !== undefined)
    throw new RunnerError(
      'sandbox_lost',
      `run ${dir.id} was made to replay run ${opened.replays.run}, and nobody waits for it any more; replay that run again`,
    );
  const policy = parsePolicyRecord(await readFile(dir.policy, 'utf8'), `policy of run ${dir.id}`);
  if (policy.digest !== opened.policy.digest)
    throw new RunnerError(
      'journal_broken',
      `run ${dir.id} cannot be resumed: its policy.json gives policy ${policy.digest}, and its journal names ${opened.policy.digest}`,
    );
  return { dir, kept, story, opened, started, policy };
}

async function join(parts: RunnerParts, found: Found, journal: Journal): Promise<Run> {
  const { dir, started, policy } = found;
  const { engineAwayMs } = parts.options;
  const { sandbox, calls } = await Sandbox.adopt(parts.engine, started.container, {
    directory: dir.callsDir,
    outputMaxBytes: policy.policy.limits.outputPerRunBytes,
    ...(engineAwayMs === undefined ? {} : { engineAwayMs }),
  });
  let sealed: Omit<Sealed<unknown>, 'done'> | undefined;
  let control: RunControl | undefined;
  let run: Run | undefined;
  try {
    await failpoint('resume.adopted');
    const stop = (reason: string): void => void run?.close('failed', `stopped: ${reason}`).catch(() => undefined);
    sealed = await sealAgain(parts, found, sandbox, journal, stop);
    await failpoint('resume.sealed');
    const { fence, isolation } = sealed;
    const answers = await Answers.reopen(dir.answers, parts.options.durability);
    const keptArguments = await KeptArguments.reopen(dir.arguments);
    const left = await LeftCalls.sort(found.story, calls, answers, dir);
    await journal.append({
      type: 'run.resumed',
      data: { sandbox: sandbox.spec.id, ...left.told, isolation },
    });
    await failpoint('resume.recorded');
    await left.record(journal);
    const { lookAgainMs: everyMs } = parts.options;
    const drift = new RunDrift({ rules: policy.policy.drift, journal, end: stop });
    drift.restore(found.story.drift);
    const outside = new OutsideWatch({ engine: parts.engine, sandbox, drift, before: undefined });
    const seal = new SealWatch({ sandbox, everyMs, outside, onFound: (error) => stop(error.message) });
    control = await RunControl.open(dir.path, { id: dir.id, policy, sandbox, journal, fence, seal });
    control.restore(found.story);
    run = await assemble(parts, found, { journal, sandbox, fence, control, drift, answers, keptArguments, left });
    await failpoint('resume.settled');
    return run;
  } catch (error) {
    await control?.close('goes on');
    await sealed?.fence?.close();
    await (isNotOurs(error) ? sandbox.close() : sandbox.handOver()).catch(() => undefined); // found by its labels
    throw error;
  }
}

/** What was let out before is on record, and what programs inside hold and trust goes on working. */
async function sealAgain(
  parts: RunnerParts,
  { dir, kept, story, policy }: Found,
  sandbox: Sandbox,
  journal: Journal,
  stop: (reason: string) => void,
): Promise<Omit<Sealed<unknown>, 'done'>> {
  const { generation, fence } = kept;
  const clock = { runMs: journal.runMs, moment: momentNow() };
  keepRun(dir, { ...kept, clock, generation: generation + 1 });
  const resumed = { kept: fence ?? { placeholders: {} }, before: story.egress, generation };
  return seal(policy.policy, { sandbox, record: inJournal(journal), stop, resumed, ...parts.options });
}

async function assemble(
  parts: RunnerParts,
  { dir, story, opened, started, policy }: Found,
  of: Pick<
    ConstructorParameters<typeof Run>[0],
    'journal' | 'sandbox' | 'fence' | 'control' | 'drift' | 'answers' | 'keptArguments'
  > & {
    readonly left: LeftCalls;
  },
): Promise<Run> {
  const { left, ...given } = of;
  const { image } = opened;
  const scope = Scope.compile(policy.policy.files);
  const { digest, kind = 'plain', strategy = 'copy' } = started.workspace;
  const tree = async () => wholeTree(await readFile(dir.base, 'utf8'), digest, dir.id);
  const { placement, base } = await parts.placements.resume(
    { digest, scopeDigest: scope.digest, kind, tree, ...checkoutIn(started.workspace) },
    strategy,
    placementFor({ runId: dir.id, sandbox: started.sandbox }, policy, scope, image, {}),
  );
  const sessions = await new SessionFiles(dir.sessionsDir).readAll();
  const now = { nowMs: Date.now(), runMs: given.journal.runMs };
  const used = story.used(now);
  const budget = new Budget(budgetLimits(policy.policy), undefined, used);
  const approvals = await Approvals.open({
    ...approvalOptions(parts, dir, given.journal),
    recorded: story.approvals(now),
  });
  const onRisk = onRiskOf(given.journal, given.fence);
  const { drift } = given;
  const halted = () => drift.halted();
  const gate = new RunGate({ run: dir.id, policy, budget, approvals, base: base.digest, onRisk, halted });
  gate.restore(story.changes);
  if (story.changes.some((change) => change.kind === 'raised'))
    given.fence?.narrow(new EgressRules(gate.policy.egress));
  const { blobs, options } = parts;
  const { context } = story;
  gate.goOn(context);
  const looked = { dir, policy, image, base, placement, recorded: story.fingerprint };
  const isDue = drift.isRuled || story.fingerprint !== undefined;
  const fingerprints = fingerprintsOf(parts, { at: 'open', isDue }, { ...given, ...looked });
  drift.begin({ reclassify: (by) => gate.raise('high', by), fingerprints });
  const run = new Run({
    ...given,
    fingerprints,
    dir,
    policy,
    image,
    scope,
    base,
    blobs,
    placement,
    budget,
    approvals,
    gate,
    contexts: contextsOf({ dir, journal: given.journal, policy: policy.policy, gate, fence: given.fence }, context),
    waitingAfterMs: options.waitingAfterMs ?? waitingAfterMs,
    resumed: {
      ...left.resumed,
      sessions,
      writers: story.writers,
      outputBytes: used.outputBytes,
      openedMsAgo: used.elapsedMs,
    },
  });
  await approvals.askOn();
  return run;
}

function wholeTree(text: string, digest: string, run: string): ReturnType<typeof parseTree> {
  const tree = parseTree(text);
  if (digestOfTree(tree) === digest) return tree;
  throw new RunnerError(
    'journal_broken',
    `run ${run} cannot be resumed: its base.json is not the one its journal names`,
  );
}

/** A sandbox of which that is known is not to be tried again. */
function isNotOurs(error: unknown): boolean {
  return (['isolation_unproven', 'protocol_error'] as const).some((code) => isRunnerError(error, code));
}

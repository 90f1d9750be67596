import type { ApprovalEvent } from '../approvals/approvals.ts';
import { isHandOver, type Worker } from '../context/context-story.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import type { EngineFacts } from '../engine/engine.ts';
import type { Draft, EntryData } from '../journal/entry.ts';
import type { Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { Origin } from './origin.ts';
import type { RunImage } from './snapshot.ts';
import { exitCodeOf } from '../sandbox/outcome.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { CallEnd } from '../sandbox/spec.ts';
import { sandboxLimits } from './sandbox-spec.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Exported } from './export.ts';
import type { Base } from '../workspace/base/import.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import { contentBytesOf, type Snapshot } from '../workspace/snapshot.ts';

/** What a run writes into its journal, made of what it knows. */

interface Opened {
  readonly policy: LoadedPolicy;
  readonly image: RunImage;
  readonly facts: EngineFacts;
  readonly origin?: Pick<EntryData<'run.opened'>, 'forkedFrom'>;
  readonly by?: EntryData<'run.opened'>['by'];
  readonly verifies?: EntryData<'run.opened'>['verifies'];
  readonly replays?: EntryData<'run.opened'>['replays'];
}

/** The first entry of a run: what is intended, under which policy, with what. */
export function openedEntry({ policy, image, facts, origin, by, verifies, replays }: Opened): Draft {
  const { name, runtime } = policy.policy;
  const { intent } = policy.task;
  return {
    type: 'run.opened',
    data: {
      ...(intent?.summary === undefined ? {} : { intent: intent.summary }),
      ...(intent === undefined || Object.keys(intent).every((key) => key === 'summary')
        ? {}
        : { request: intent as EntryData<'run.opened'>['request'] }),
      policy: { name, digest: policy.digest, effective: JSON.parse(policy.canonical) },
      image,
      engine: {
        kind: facts.kind,
        version: facts.version,
        runtime,
        factsDigest: digestOf(canonicalJson({ ...facts, clockSkewMs: undefined })),
      },
      limits: { ...sandboxLimits(policy) },
      versions: { node: process.version, kernel: facts.kernel },
      ...(by === undefined ? {} : { by }),
      ...(origin?.forkedFrom === undefined ? {} : { forkedFrom: origin.forkedFrom }),
      ...(verifies === undefined ? {} : { verifies }),
      ...(replays === undefined ? {} : { replays }),
    },
  };
}

/** Of a fork: that another model, or another lane, goes on with it. Whoever verifies is no agent. */
export function handOverEntry(
  from: Origin['worker'] | undefined,
  to: Worker,
  { verifies }: Pick<Opened, 'verifies'>,
): Draft | undefined {
  if (from === undefined || verifies !== undefined || !isHandOver(from, to)) return undefined;
  return { type: 'lane.handed_over', data: { from, to } };
}

export function approvalEntry(event: ApprovalEvent): Draft {
  const { id, category, at, callId, rule, digest, quorum, expiresAt } = event.request;
  if (event.kind === 'decided') {
    const { kind: verdict, by, reason } = event.outcome;
    return { type: 'approval.decided', data: { id, category, verdict, by, reason, digest } };
  }
  const call = callId === undefined ? {} : { callId };
  return { type: 'approval.requested', data: { id, category, at, ...call, rule, digest, quorum, expiresAt } };
}

type Started = EntryData<'sandbox.started'>;

interface Begun {
  readonly sandbox: Pick<Sandbox, 'spec' | 'containerId'>;
  readonly base: Base;
  readonly placement: Placement;
  readonly inputs: NonNullable<Started['inputs']>;
  readonly isolation: NonNullable<Started['isolation']>;
  /** It was there before the run was. */
  readonly warm: boolean;
}

/** The sandbox is there, filled, and proven to be sealed; nothing has run in it yet. */
export function startedEntry({ sandbox, base, placement, inputs, isolation, warm }: Begun): Draft {
  const { files, directories, symlinks, bytes } = placement.counts(base);
  const { kind, digest } = base;
  const { strategy, checkout } = placement;
  return {
    type: 'sandbox.started',
    data: {
      sandbox: sandbox.spec.id,
      container: sandbox.containerId,
      specDigest: digestOf(canonicalJson(sandbox.spec)),
      warm,
      workspace: { kind, digest, files, directories, symlinks, bytes, strategy, ...checkout },
      ...(inputs.length === 0 ? {} : { inputs }),
      isolation,
    },
  };
}

export function endOfVerb(result: ToolResult, ms: number): Omit<EntryData<'call.ended'>, 'callId'> {
  const common = { ms: Math.round(ms) };
  if (result.ok) return { ...common, outcome: { kind: 'done' } };
  const error = result.error === null ? {} : { error: { code: result.error.code, message: result.error.message } };
  return { ...common, outcome: { kind: 'failed' }, ...error };
}

/** What nobody saw end has no exit code. */
export function endOfCommand(
  { outcome, wallMs, cpuMs, descendantsAlive }: CallEnd,
  output: NonNullable<EntryData<'call.ended'>['output']>,
): Omit<EntryData<'call.ended'>, 'callId'> {
  return {
    outcome,
    ...(outcome.kind === 'sandbox_lost' ? {} : { exitCode: exitCodeOf(outcome) }),
    ms: Math.round(wallMs),
    cpuMs: Math.round(cpuMs),
    output,
    descendants: descendantsAlive,
  };
}

export function sizeOf({ changeSet }: Snapshot): { readonly changes: number; readonly bytes: number } {
  return { changes: changeSet.changes.size, bytes: contentBytesOf(changeSet) };
}

export function collectedData(candidate: Exported): EntryData<'workspace.collected'> {
  const { changeSet, classified, violations, violationsLeftOut } = candidate;
  const count = (status: string) => classified.filter((change) => change.status === status).length;
  const findings: Record<string, number> = {};
  for (const finding of candidate.findings) findings[finding.kind] = (findings[finding.kind] ?? 0) + 1;
  if (violations.length > 0) findings['outside_write_scope'] = violations.length + violationsLeftOut;
  if (candidate.held.length > 0) findings['held_back'] = candidate.held.length;
  const sizes = [...changeSet.changes.values()].map((change) => (change.kind === 'file' ? change.sizeBytes : 0));
  const added = count('added');
  const deleted = count('deleted');
  return {
    digest: digestOfChangeSet(changeSet),
    added,
    deleted,
    modified: classified.length - added - deleted,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    findings,
  };
}

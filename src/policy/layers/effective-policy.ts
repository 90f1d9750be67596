import type { Digest } from '../../digest.ts';
import type { FileRules } from './file-rules.ts';
import type { EffectiveDrift } from './effective-drift.ts';
import type { EffectiveCredential, EffectiveEgress } from './effective-egress.ts';
import type { EffectiveReplay } from './effective-replay.ts';
import type { EffectiveVerify } from './effective-verify.ts';
import type { RiskLevel } from '../language/fields.ts';
import type { PromotionRule, ReviewersKnown, TightenWhen } from '../language/promotion.ts';
import type { CommandRule, Escalator, When } from '../language/rules.ts';
import type { Held } from './held.ts';
import type { Registries } from '../../registries/registries.ts';
import type { TaskRequest } from './restriction.ts';
import type { SourceFile } from '../language/source-file.ts';

/** What a run may touch: all layers together, for one task. Fixed when it opens, named by its digest. */
export interface Policy {
  readonly apiVersion: 'glovebox/v1';
  readonly kind: 'Policy';
  readonly name: string;
  readonly description: string;
  /** The files that it was made of, the widest first. */
  readonly layers: readonly string[];
  readonly taskClass: string | null;
  readonly lane: string | null;
  readonly risk: RiskLevel;
  readonly images: readonly string[];
  readonly runtime: 'runc' | 'runsc';
  /** The scope of the sandbox; `paths` says more exactly what of it is exported. */
  readonly files: {
    readonly read: readonly string[];
    readonly write: readonly string[];
    readonly scratch: readonly string[];
    readonly deny: readonly string[];
    readonly includeIgnored: boolean;
    readonly git: boolean;
  };
  readonly paths: readonly FileRules[];
  readonly inputs: readonly { readonly source: string; readonly target: string }[];
  readonly environment?: EnvironmentSpec;
  readonly limits: {
    readonly memoryBytes: number;
    readonly cpus: number;
    readonly pidsMax: number;
    readonly openFilesMax: number;
    readonly workspaceBytes: number;
    readonly workspaceFilesMax: number;
    readonly tmpBytes: number;
    readonly wallClockMs: number;
    readonly commandTimeoutMs: number;
    /** 0 = none. */
    readonly idleTimeoutMs: number;
    readonly outputPerCallBytes: number;
    readonly replyBytes: number;
    readonly outputPerRunBytes: number;
  };
  /** Of those below `maxParallelActions`, and of `maxConsecutiveDenials`, 0 = none. */
  readonly budget: {
    readonly maxActionsPerRun: number;
    readonly maxActionsByTag: Readonly<Record<string, number>>;
    readonly maxDeniedActions: number;
    readonly maxConsecutiveDenials: number;
    readonly maxApprovalRequests: number;
    readonly maxParallelActions: number;
    readonly maxActionsPerMinute: number;
    readonly cpuSeconds: number;
    readonly diffFiles: number;
    readonly diffLines: number;
    readonly diffBinaryBytes: number;
  };
  readonly tools: { readonly allow: readonly string[] };
  readonly env: { readonly set: Readonly<Record<string, string>> };
  /** Of each layer that has some; every one of them has to allow a command. */
  readonly commands: readonly { readonly layer: string; readonly rules: readonly CommandRule[] }[];
  readonly escalators: readonly Escalator[];
  readonly approvals: {
    readonly categories: Readonly<Record<string, ApprovalCategory>>;
    readonly triggers: readonly { readonly category: string; readonly when: When }[];
    /** Categories that every export needs. */
    readonly everyExport: readonly string[];
  };
  readonly egress: EffectiveEgress;
  readonly credentials: Readonly<Record<string, EffectiveCredential>>;
  /** Models that may work here; all of them where none is named. */
  readonly models: readonly string[];
  readonly requireIntent: boolean;
  readonly handOver?: { readonly to: string; readonly actionsUsed: number };
  /** Absent where no layer says anything of it. */
  readonly context?: ContextTerms;
  /** Absent where no layer says anything of it: then `standardVerify` holds. */
  readonly verify?: EffectiveVerify;
  /** Of each layer that says something; every one of them has to be content. Absent where none does. */
  readonly promotion?: readonly PromotionLayer[];
  /** Absent where no layer says anything of it: then `noDriftRules` holds. */
  readonly drift?: EffectiveDrift;
  /** Absent where no layer says anything of it: then only what is always noise is, and there is no network. */
  readonly replay?: EffectiveReplay;
  readonly retention: { readonly journalMs: number; readonly outputMs: number; readonly diffMs: number };
}

/** Before which calls the agent's beliefs have to be on record, and how recent. */
export interface ContextTerms {
  /** Categories of approvals, and tags of commands. */
  readonly freshBefore: readonly string[];
  /** So many calls may be let in with one snapshot; null = no bound. */
  readonly maxAgeCalls: number | null;
  /** What each command has written is looked at before the next one. Absent: when there is time. */
  readonly attribution?: 'exact';
}

export interface PromotionLayer {
  readonly layer: string;
  readonly rules: readonly PromotionRule[];
  readonly tightenWhen?: TightenWhen;
  readonly reviewers?: ReviewersKnown;
}

export interface ApprovalCategory {
  readonly effect: 'ask' | 'deny';
  readonly quorum: number;
  readonly timeoutMs: number;
  readonly remember: 'none' | 'run';
  readonly reasonRequired: boolean;
  readonly note?: string;
}

export interface EnvironmentSpec {
  readonly image: string;
  readonly setup: readonly (readonly string[])[];
  readonly files: readonly string[];
  /** What setup may reach; left out: nothing. */
  readonly egress?: EffectiveEgress;
}

/** What holds for one task, and where each part of it was decided. */
export interface Effective {
  readonly policy: Policy;
  readonly canonical: string;
  readonly digest: Digest;
  /** By key, as it is written in a file. */
  readonly decidedBy: ReadonlyMap<string, Held<unknown>>;
}

/** A policy that is ready for a run. `digest` is of `canonical`: the same for files that mean the same. */
export interface LoadedPolicy extends Effective {
  /** Where its last file was read, for messages, and what that says. */
  readonly source: string;
  readonly text: string;
  /** The files it was made of, the widest first, and the task: enough to make it again, or for another task. */
  readonly chain: readonly SourceFile[];
  readonly task: TaskRequest;
  /** Of this machine, or the public ones: what rules with `registry` stand for. */
  readonly registries: Registries;
}

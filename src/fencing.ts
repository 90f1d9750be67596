import { Credentials } from './credentials/credentials.ts';
import type { Fence } from './egress/fence.ts';
import { keepImageTrust } from './egress/image-trust.ts';
import { Network } from './egress/outside/network.ts';
import type { EgressRecord } from './egress/checkpoint/record.ts';
import type { ResumedFence } from './egress/kept.ts';
import { proveIsolation, type IsolationProof } from './egress/self-test.ts';
import type { Journal } from './journal/writer.ts';
import type { Policy } from './policy/policy.ts';
import type { Sandbox } from './sandbox/sandbox.ts';

/** The part of a policy that says what a sandbox may reach. */
export type Reachable = Pick<Policy, 'egress' | 'credentials'>;

export interface FencingParts {
  readonly sandbox: Sandbox;
  /** Its image may be an environment, whose bundle of authorities is for us to give. */
  readonly derived?: boolean;
  readonly record: EgressRecord;
  /** What was shown of it a moment ago; enough where nothing is let out. */
  readonly isolation?: IsolationProof | undefined;
  /** Ends what runs in it. */
  readonly stop: (reason: string) => void;
  readonly network?: Network;
  /** Tools have run in it already, under another runner. */
  readonly resumed?: ResumedFence;
  readonly credentialCommands?: Readonly<Record<string, readonly string[]>>;
}

export interface Sealed<T> {
  /** The way out of the sandbox; undefined where its policy lets nothing out. */
  readonly fence: Fence | undefined;
  readonly isolation: IsolationProof;
  /** What the work came to. */
  readonly done: T;
}

/**
 * Opens the way out, where a policy has one, and proves that there is no other (`isolation_unproven`), while `work` that runs
 * nothing of the agent's goes on. Whichever fails, both have ended before this does, and no fence is left.
 */
export async function sealBeside<T>(policy: Reachable, parts: FencingParts, work: Promise<T>): Promise<Sealed<T>> {
  const [sealed, worked] = await Promise.allSettled([seal(policy, parts), work]);
  if (sealed.status === 'rejected') throw sealed.reason;
  if (worked.status === 'fulfilled') return { ...sealed.value, done: worked.value };
  await sealed.value.fence?.close();
  throw worked.reason;
}

/** The same beside nothing. */
export async function seal(policy: Reachable, parts: FencingParts): Promise<Omit<Sealed<unknown>, 'done'>> {
  const fence = await openFence(policy, parts);
  try {
    const [isolation] = await Promise.all([
      fence === undefined
        ? (parts.isolation ?? proveIsolation(parts.sandbox, 'refused'))
        : proveIsolation(parts.sandbox, 'nxdomain'),
      parts.derived === true && fence?.terminates !== true && parts.resumed === undefined
        ? keepImageTrust(parts.sandbox.files)
        : undefined,
    ]);
    return { fence, isolation };
  } catch (error) {
    await fence?.close();
    throw error;
  }
}

async function openFence(
  { egress, credentials }: Reachable,
  { sandbox, record, stop, network, credentialCommands = {}, resumed }: FencingParts,
): Promise<Fence | undefined> {
  if (!letsOut(egress)) return undefined;
  const { Fence: Opened } = await import('./egress/fence.ts'); // what carries HTTP is large, and most runs are sealed
  return Opened.open({
    sandbox,
    egress,
    network: network ?? new Network(),
    credentials: Credentials.open({
      credentials: usedBy(egress, credentials),
      commands: credentialCommands,
      ...(resumed === undefined ? {} : { placeholders: resumed.kept.placeholders }),
    }),
    record,
    onStop: stop,
    ...(resumed === undefined ? {} : { resumed }),
  });
}

/** Those that a rule here names: a run has nothing that stands for setup's, and setup nothing for a run's. */
function usedBy({ rules }: Policy['egress'], credentials: Policy['credentials']): Policy['credentials'] {
  const used = new Set(rules.map(({ credential }) => credential));
  return Object.fromEntries(Object.entries(credentials).filter(([name]) => used.has(name)));
}

/** Where a policy lets nothing out there is no fence, and nothing listens inside. */
export function letsOut({ rules, upstreams, mode }: Policy['egress']): boolean {
  return rules.length > 0 || upstreams.length > 0 || mode === 'observe';
}

export function inJournal(journal: Journal): EgressRecord {
  return {
    decided: async (data) => void (await journal.append({ type: 'egress.decided', data })),
    ended: async (data) => void (await journal.append({ type: 'egress.ended', data })),
    counted: async (data) => void (await journal.append({ type: 'egress.counted', data })),
  };
}

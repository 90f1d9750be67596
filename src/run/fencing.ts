import { Credentials } from '../credentials/credentials.ts';
import type { Fence } from '../egress/fence.ts';
import { Network } from '../egress/network.ts';
import type { EgressRecord } from '../egress/record.ts';
import type { Journal } from '../journal/writer.ts';
import type { Policy } from '../policy/policy.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';

export interface FencingParts {
  readonly sandbox: Sandbox;
  readonly journal: Journal;
  /** Ends the run. */
  readonly stop: (reason: string) => void;
  readonly network?: Network;
  readonly credentialCommands?: Readonly<Record<string, readonly string[]>>;
}

/** The way out of a run's sandbox; undefined where its policy lets nothing out. */
export async function openFence(
  { egress, credentials }: Policy,
  { sandbox, journal, stop, network = new Network(), credentialCommands = {} }: FencingParts,
): Promise<Fence | undefined> {
  if (!letsOut(egress)) return undefined;
  const { Fence: Opened } = await import('../egress/fence.ts'); // what carries HTTP is large, and most runs are sealed
  return Opened.open({
    sandbox,
    egress,
    network,
    credentials: Credentials.open({ credentials, commands: credentialCommands }),
    record: inJournal(journal),
    onStop: stop,
  });
}

/** Where a policy lets nothing out there is no fence, and nothing listens inside. */
function letsOut({ rules, upstreams, mode }: Policy['egress']): boolean {
  return rules.length > 0 || upstreams.length > 0 || mode === 'observe';
}

function inJournal(journal: Journal): EgressRecord {
  return {
    decided: async (data) => void (await journal.append({ type: 'egress.decided', data })),
    ended: async (data) => void (await journal.append({ type: 'egress.ended', data })),
    counted: async (data) => void (await journal.append({ type: 'egress.counted', data })),
  };
}

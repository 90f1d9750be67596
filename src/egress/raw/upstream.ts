import { failureOf } from '../outside/bound.ts';
import type { Conversation } from '../conversation.ts';
import { EgressFailure } from '../failure.ts';
import type { Pass, PassEnd } from '../checkpoint/pass.ts';
import type { CarryParts } from './pass-through.ts';
import { endOf, reach, reset, splice } from './splice.ts';

/** Bytes to and from what the policy named beside the sandbox: a database, a service of the host. Never rejects. */
export async function carryUpstream(conversation: Conversation, parts: CarryParts): Promise<void> {
  const { inner } = conversation;
  inner.on('error', () => undefined);
  let pass: Pass;
  try {
    pass = await parts.checkpoint.connection(conversation);
  } catch {
    return reset(inner);
  }
  let end: PassEnd;
  try {
    end = await carried(conversation, pass, parts);
  } catch (error) {
    end = endOf(failureOf(error));
    reset(inner);
  }
  await pass.end(end);
}

async function carried(conversation: Conversation, pass: Pass, parts: CarryParts): Promise<PassEnd> {
  const { upstream } = pass;
  if (upstream === undefined) throw new EgressFailure('denied', `${conversation.host} is no upstream`);
  const { socket, address } = await reach(conversation.inner, pass, parts.connectMs ?? 10_000, (bounds) =>
    parts.network.dialUpstream(upstream, bounds),
  );
  const end = await splice(conversation.inner, socket, pass);
  return address === null ? end : { ...end, address };
}

import type { GloveboxClient } from '../../client/client.ts';
import { KeyView, NewKey } from '../../contract/key-view.ts';
import { RunnerError } from '../../errors.ts';
import { checkedDraft, type KeyDraft, type KeyRow } from '../../store/key-row.ts';
import { keyIdOf, type Keys } from '../../store/keys.ts';
import { answered } from '../leave/answered.ts';
import type { CliContext } from '../context.ts';
import { openService, servicePlace } from '../service.ts';
import { withStore } from './with-store.ts';

/** Where keys are kept, and what can be done with them there. */
export interface KeyBook {
  /** Throws `invalid_request`, for the same drafts and in the same words everywhere. */
  create(draft: KeyDraft): Promise<NewKey>;
  /** Oldest first. */
  list(): Promise<readonly KeyRow[]>;
  /** By its whole id. */
  revoke(id: string): Promise<KeyRow>;
  /** When the key in use expires: it gives none that holds for longer. Null: never, or none is in use. */
  ownEnd(): Promise<string | null>;
}

/** The keys of the service that is given, as far as the key in use reaches; else all of this data directory. */
export async function withKeys<T>(context: CliContext, work: (keys: KeyBook) => Promise<T>): Promise<T> {
  const place = servicePlace();
  if (place.kind !== 'given') return withStore(context, ({ keys }) => work(ofDirectory(keys)));
  const client = await openService();
  try {
    return await work(ofService(client, place.key));
  } finally {
    await client.close();
  }
}

function ofDirectory(keys: Keys): KeyBook {
  return {
    create: async (draft) => {
      const { row, secret } = keys.create(draft);
      return { key: row, secret };
    },
    list: async () => keys.list(),
    revoke: async (id) => keys.revoke(id) ?? refuseUnknown(id),
    ownEnd: async () => null,
  };
}

function ofService({ keys }: GloveboxClient, secret: string | undefined): KeyBook {
  const list = async (): Promise<readonly KeyRow[]> => answered(KeyView.array(), await keys.list(), 'keys');
  return {
    list,
    create: async (draft) => answered(NewKey, await keys.create(checkedDraft(draft)), 'a new key'),
    revoke: async (id) => answered(KeyView, await keys.revoke(id), 'a key'),
    ownEnd: async () => {
      const own = keyIdOf(secret ?? '');
      return own === undefined ? null : ((await list()).find(({ id }) => id === own)?.expiresAt ?? null);
    },
  };
}

function refuseUnknown(id: string): never {
  throw new RunnerError('not_found', `there is no key ${id}; glovebox key ls lists them`);
}

import type { EntryData } from '../journal/entry.ts';

/** Whose run it is: on record in its journal, so that it is known wherever that is. */
export type Requester = NonNullable<EntryData<'run.opened'>['by']>;

/** Which gate of which run looks at a candidate in it. */
export type Verifies = NonNullable<EntryData<'run.opened'>['verifies']>;

/** Whose calls are made again in it. */
export type Replays = NonNullable<EntryData<'run.opened'>['replays']>;

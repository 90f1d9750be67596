import { z } from 'zod';
import { KeyRow } from '../store/key-row.ts';

export type { KeyDraft } from '../store/key-row.ts';

/** What is told of a key: all but what would let anybody use it. */
export const KeyView = KeyRow;
export type KeyView = z.infer<typeof KeyView>;

export const NewKey = z.strictObject({ key: KeyView, secret: z.string().describe('Shown this once.') });
export type NewKey = z.infer<typeof NewKey>;

export const KeyList = z.strictObject({ keys: z.array(KeyView).readonly() });
export type KeyList = z.infer<typeof KeyList>;

import { z } from 'zod';
import { field, names, ownName } from './fields.ts';

/** What a harness has to say of what its agent believes. `docs/context.md` explains. */
export const Context = z.strictObject({
  fresh_before: field(
    names(ownName),
    'Categories of approvals and tags of commands: such a call needs a context snapshot that is fresh. Layers add up.',
    [],
  ),
  max_age_calls: field(
    z.int().min(1).max(100_000),
    'So many calls are let in with one snapshot; then it is not fresh any more. Left out, it stays fresh.',
  ),
  attribution: field(
    z.enum(['exact', 'lazy']),
    'exact: before each command it is looked at what the one before has written, which takes some milliseconds. lazy: when there is time.',
  ),
});

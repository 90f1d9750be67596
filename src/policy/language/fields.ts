import { z } from 'zod';
import { messageOf } from '../../errors.ts';
import { parseGlob } from '../../workspace/scope/glob.ts';

/** What every part of the policy language is made of. */

export const riskLevels = ['low', 'medium', 'high', 'critical'] as const;
export type RiskLevel = (typeof riskLevels)[number];

/** A key of the language: what it means, and what holds where no layer says anything. */
export function field<T extends z.ZodType>(schema: T, description: string, standard?: unknown) {
  return schema.optional().meta({ description, ...(standard === undefined ? {} : { default: standard }) });
}

export const shortName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'write 1 to 64 of a-z, 0-9, dot, underscore and dash');

/** Names that a team gives to its classes, lanes, sets, profiles and categories. */
export const ownName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'write a name of a-z, 0-9, underscore and dash, up to 64');

export const ruleId = z
  .string()
  .regex(/^[a-z][a-z0-9._-]{0,63}$/, 'write an id of a-z, 0-9, dot, underscore and dash, up to 64');

export const shortText = z.string().min(1).max(500);

export function names(item: z.ZodType<string>, max = 64) {
  return z
    .array(item)
    .max(max)
    .superRefine((list, context) => {
      const twice = firstTwice(list);
      if (twice >= 0) context.addIssue({ code: 'custom', message: 'the same name twice', path: [twice] });
    })
    .readonly();
}

export function byName<T extends z.ZodType>(value: T, max = 64) {
  return z
    .record(ownName, value)
    .superRefine((entries, context) => {
      if (Object.keys(entries).length > max) context.addIssue(`more than ${max} of them`);
    })
    .readonly();
}

/** A glob, `!` before it takes away; or `$name` of a path set, which `path_sets` has to define. */
const pathPattern = z.string().superRefine((pattern, context) => {
  const plain = pattern.startsWith('!') ? pattern.slice(1) : pattern;
  if (plain.startsWith('$')) {
    if (!ownName.safeParse(plain.slice(1)).success) context.addIssue(`${JSON.stringify(plain)} is no name of a set`);
    return;
  }
  try {
    parseGlob(plain);
  } catch (error) {
    context.addIssue(`the glob ${JSON.stringify(pattern.slice(0, 100))} ${messageOf(error)}`);
  }
});

export const paths = z
  .array(pathPattern)
  .max(256)
  .superRefine((patterns, context) => {
    const twice = firstTwice(patterns);
    if (twice >= 0) context.addIssue({ code: 'custom', message: 'the same glob twice', path: [twice] });
    if (patterns.length > 0 && patterns.every((pattern) => pattern.startsWith('!'))) {
      context.addIssue('every glob here excludes, so the list matches nothing; add what it includes');
    }
  })
  .readonly();

function firstTwice(list: readonly string[]): number {
  return list.findIndex((item, index) => list.indexOf(item) < index);
}

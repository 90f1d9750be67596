import { z } from 'zod';
import type { YamlSource } from './yaml-source.ts';

const issuesMax = 10;

/** One line for each thing that is wrong: where, which key, and what to write instead. */
export function issueLines(
  issues: readonly z.core.$ZodIssue[],
  source: Pick<YamlSource, 'placeOf'>,
  schema: z.ZodType,
): readonly string[] {
  const lines = issues.flatMap((issue) => linesOf(issue, source, schema));
  return lines.length > issuesMax ? [...lines.slice(0, issuesMax), `... and ${lines.length - issuesMax} more`] : lines;
}

function linesOf(issue: z.core.$ZodIssue, source: Pick<YamlSource, 'placeOf'>, schema: z.ZodType): readonly string[] {
  const { path } = issue;
  if (issue.code !== 'unrecognized_keys') return [`${source.placeOf(path)}: ${nameOf(path)}: ${messageOf(issue)}`];
  const known = keysAt(schema, path);
  return issue.keys.map((key) => {
    const place = source.placeOf([...path, key], 'key');
    return `${place}: ${nameOf([...path, key])}: unknown key; ${suggestion(key, known)}`;
  });
}

function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.input === undefined) return 'is missing';
  return issue.message.replace(/^Invalid input: /, '');
}

function nameOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? 'the policy' : path.map(String).join('.').slice(0, 200);
}

/** What was probably meant, or what there is. */
export function suggestion(key: string, known: readonly string[]): string {
  const wanted = key.replaceAll(/([a-z])([A-Z])/g, '$1_$2').toLowerCase();
  const [nearest] = known
    .map((name) => ({ name, distance: distance(wanted, name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  if (nearest !== undefined && nearest.distance <= Math.max(2, key.length / 3)) return `did you mean ${nearest.name}?`;
  return `the keys here are ${known.join(', ')}`;
}

function keysAt(root: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  return Object.keys(shapeOf(path.reduce<unknown>((schema, key) => below(schema, key), root)));
}

/** The keys of an object schema, through what may be left out. */
function shapeOf(schema: unknown): Readonly<Record<string, z.core.$ZodType>> {
  const inner = unwrapped(schema);
  return inner instanceof z.ZodObject ? inner.shape : {};
}

/** The schema without the wrappers that say that it may be left out, or is not changed. */
export function unwrapped(schema: unknown): unknown {
  const wrapped = schema instanceof z.ZodOptional || schema instanceof z.ZodReadonly;
  return wrapped ? unwrapped(schema.unwrap()) : schema;
}

function below(schema: unknown, key: PropertyKey): unknown {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodArray) return inner.element;
  if (inner instanceof z.ZodRecord) return inner.valueType;
  return shapeOf(inner)[String(key)];
}

/** Levenshtein's, on names short enough not to matter. */
function distance(a: string, b: string): number {
  const length = Math.min(a.length, 64);
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 0; i < length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a.charAt(i) === b.charAt(j) ? 0 : 1);
      next.push(Math.min((next[j] ?? 0) + 1, (row[j + 1] ?? 0) + 1, replaced));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

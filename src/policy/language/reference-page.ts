import { z } from 'zod';
import { unwrapped } from './issue-lines.ts';
import { Files } from './files.ts';
import { Intent } from './intent.ts';
import { Budget, Limits } from './limits.ts';
import { When } from './rules.ts';
import { toolNames } from './tools.ts';
import { PolicyFile } from './schema.ts';
import { standardOf } from './standards.ts';

/** What is said in several places is explained once. */
const sections: readonly (readonly [title: string, schema: z.ZodObject])[] = [
  ['A policy file', PolicyFile],
  ['files', Files],
  ['limits', Limits],
  ['budget', Budget],
  ['when', When],
  ['intent', Intent],
];

/** `docs/policy-reference.md`. */
export function policyReferencePage(): string {
  const intro = [
    '# Every key of a policy',
    '',
    'Made from the schema in `src/policy/` (`make docs`). [policy.md](policy.md) explains; editors take',
    '[policy.schema.json](policy.schema.json): `# yaml-language-server: $schema=...`. `NAME` is a name of your own.',
  ];
  return `${[...intro, ...sections.flatMap(([title, schema]) => section(title, schema))].join('\n')}\n`;
}

/** `docs/policy.schema.json`. */
export function policyJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(PolicyFile, { io: 'input', unrepresentable: 'any', reused: 'ref' });
}

function section(title: string, schema: z.ZodObject): string[] {
  return ['', `## ${title}`, '', '| key | default | |', '|---|---|---|', ...rowsOf(schema, '', schema)];
}

function rowsOf(schema: z.ZodObject, prefix: string, top: z.ZodObject): string[] {
  return Object.entries(schema.shape).flatMap(([key, field]) => rowOf(`${prefix}${key}`, field, top));
}

function rowOf(key: string, field: unknown, top: z.ZodObject): string[] {
  if (!(field instanceof z.ZodType)) return [];
  const { description = '' } = field;
  const [below, suffix] = within(field);
  const shared = sections.find(([, schema]) => schema === below && schema !== top);
  const more = shared === undefined ? '' : ` Keys: [${shared[0]}](#${shared[0].replaceAll(' ', '-')}).`;
  const row = `| \`${key}${suffix}\` | ${defaultText(field)} | ${description.replaceAll('|', String.raw`\|`)}${more} |`;
  return below === undefined || shared !== undefined ? [row] : [row, ...rowsOf(below, `${key}${suffix}.`, top)];
}

/** The object in it, and how it is reached. */
function within(field: unknown): readonly [z.ZodObject | undefined, string] {
  const inner = unwrapped(field);
  if (inner instanceof z.ZodObject) return [inner, ''];
  if (inner instanceof z.ZodArray) {
    const [object] = within(inner.element);
    return [object, object === undefined ? '' : '[]'];
  }
  if (inner instanceof z.ZodRecord) {
    const [object, suffix] = within(inner.valueType);
    return [object, object === undefined ? '' : `.NAME${suffix}`];
  }
  return [undefined, ''];
}

function defaultText(field: z.ZodType): string {
  if (!(field instanceof z.ZodOptional)) return 'required';
  const standard = standardOf(field);
  if (standard === undefined || JSON.stringify(standard) === '{}' || standard === '') return '';
  if (Array.isArray(standard) && standard.length === toolNames.length) return 'all';
  return `\`${typeof standard === 'string' ? standard : JSON.stringify(standard)}\``;
}

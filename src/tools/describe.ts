import { z } from 'zod';
import { ToolCall } from './tool-call.ts';

/** One tool as a protocol describes it: name, text, JSON Schema of its arguments (without `tool` itself). */
export interface ToolDescription {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Record<string, unknown>;
}

/** The tools that are offered, from the one schema that also validates; without a list, every one. */
export function describeTools(offered?: readonly string[]): ToolDescription[] {
  const all = ToolCall.options.filter((option) => offered?.includes(option.shape.tool.value) !== false);
  return all.map((option) => {
    const { properties, required, ...schema } = z.toJSONSchema(option, {
      io: 'input',
      unrepresentable: 'any',
    }) as JsonObjectSchema;
    const { tool, ...fields } = properties;
    return {
      name: tool?.const ?? '',
      description: tool?.description ?? '',
      inputSchema: { ...schema, properties: fields, required: (required ?? []).filter((name) => name !== 'tool') },
    };
  });
}

/** `docs/tools.md`. */
export function toolsPage(): string {
  const intro = [
    '# Tools',
    '',
    'What a harness can ask of a sandbox. Made from the schemas in `src/tools/calls/` (`make docs`); unknown fields are refused.',
    'Every answer has the same keys: `callId, tool, ok, text, data, error`. `text` is what to show to a model; `data` is typed.',
    'Paths are absolute, or relative to `/workspace`.',
  ];
  return `${[...intro, ...describeTools().flatMap((tool) => toolSection(tool))].join('\n')}\n`;
}

interface FieldSchema {
  readonly const?: string;
  readonly description?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly anyOf?: readonly FieldSchema[];
  readonly items?: FieldSchema;
  readonly properties?: Record<string, FieldSchema>;
}

interface JsonObjectSchema {
  readonly properties: Record<string, FieldSchema>;
  readonly required?: readonly string[];
}

function toolSection(tool: ToolDescription): string[] {
  const { properties, required } = tool.inputSchema as unknown as JsonObjectSchema;
  const rows = Object.entries(properties).map(([name, field]) => {
    const fallback = field.default === undefined ? '' : `default \`${JSON.stringify(field.default)}\``;
    return `| \`${name}\`${required?.includes(name) === true ? ' *' : ''} | ${typeText(field)} | ${fallback} | ${cell(field.description ?? '')} |`;
  });
  const head = ['', `## ${tool.name}`, '', tool.description];
  return rows.length === 0 ? head : [...head, '', '| field | type | | |', '|---|---|---|---|', ...rows];
}

function typeText(field: FieldSchema): string {
  if (field.enum !== undefined) return field.enum.map((value) => `\`${String(value)}\``).join(' ');
  if (field.anyOf !== undefined) return field.anyOf.map((option) => typeText(option)).join(' or ');
  if (field.type === 'array') return `${typeText(field.items ?? {})} list`;
  if (field.properties !== undefined) return `{${Object.keys(field.properties).join(', ')}}`;
  return field.type === undefined ? '' : [field.type].flat().join(' or ');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

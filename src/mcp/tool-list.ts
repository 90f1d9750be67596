import type { Tool, ToolAnnotations } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { ContextSnapshot } from '../context/context-snapshot.ts';
import type { Offer } from '../run/delegated-run.ts';
import type { ToolName } from '../tools/tool-call.ts';

/** What the client is told of each tool before it asks anybody for leave: what may go wrong with it, inside. */
const natures: Record<ToolName, 'reads' | 'adds' | 'settles' | 'changes' | 'runs'> = {
  exec: 'runs',
  exec_poll: 'reads',
  exec_write: 'adds',
  exec_signal: 'changes',
  exec_kill: 'settles',
  exec_resize: 'settles',
  exec_list: 'reads',
  output: 'reads',
  session_reset: 'settles',
  stat: 'reads',
  read: 'reads',
  write: 'settles',
  edit: 'changes',
  apply_patch: 'changes',
  list: 'reads',
  glob: 'reads',
  grep: 'reads',
  mkdir: 'adds',
  move: 'changes',
  remove: 'settles',
  upload: 'settles',
  download: 'reads',
};

/** The tools of the run's class, as the protocol describes them. */
export function toolList(offer: Offer): Tool[] {
  const tools = offer.tools().map(({ name, description, inputSchema }) => ({
    name,
    description,
    inputSchema: plainSchema(inputSchema) as Tool['inputSchema'],
    annotations: annotationsOf(name as ToolName, offer.reachesOut),
  }));
  return offer.asksContext ? [...tools, contextTool()] : tools;
}

/** No tool of the sandbox: what it is given is kept with the run. Offered where some calls are denied without it. */
export const contextToolName = 'attach_context';

function contextTool(): Tool {
  const schema = z.toJSONSchema(ContextSnapshot, { io: 'input', unrepresentable: 'any' });
  return {
    name: contextToolName,
    description:
      'Puts on record what you believe now: the task, what you have found, what you are about to do. Some calls are denied until a fresh one is there; count `version` up.',
    inputSchema: plainSchema(schema) as Tool['inputSchema'],
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  };
}

function annotationsOf(name: ToolName, reachesOut: boolean): ToolAnnotations {
  const nature = natures[name];
  return {
    readOnlyHint: nature === 'reads',
    destructiveHint: nature === 'changes' || nature === 'runs' || (nature === 'settles' && overwrites.has(name)),
    idempotentHint: nature === 'reads' || nature === 'settles',
    openWorldHint: nature === 'runs' && reachesOut,
  };
}

const overwrites: ReadonlySet<ToolName> = new Set(['write', 'remove', 'upload', 'exec_kill']);

/**
 * The same schema for readers that know little of JSON Schema: no `$schema`, and a list that begins with one item is a list.
 * Whatever they let through is still judged by the exact one.
 */
function plainSchema(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map((item) => plainSchema(item));
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema).filter(([key]) => key !== '$schema' && key !== 'prefixItems');
  const plain = Object.fromEntries(entries.map(([key, value]) => [key, plainSchema(value)]));
  return 'prefixItems' in schema ? { ...plain, minItems: 1 } : plain;
}

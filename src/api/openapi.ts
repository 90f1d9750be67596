import { z } from 'zod';
import { ApprovalView } from '../contract/approval-view.ts';
import { ServiceEvent } from '../contract/event.ts';
import { Problem } from '../contract/problem.ts';
import { OpenRun, RunView } from '../contract/run-view.ts';
import { RunState } from '../control/controlled.ts';
import { ToolCall } from '../tools/tool-call.ts';
import { ToolResult } from '../tools/tool-result.ts';
import type { BodySpec, ReplySpec, Route } from './route.ts';

type Json = Record<string, unknown>;

/** Said once, under a name: what is long, or comes back from several routes. Of the one direction in which it is sent. */
const named = { ToolCall, ToolResult, RunView, ApprovalView, Problem, RunState, OpenRun, ServiceEvent } as const;
const nameOf = new Map<z.ZodType, string>(Object.entries(named).map(([name, schema]) => [schema, name]));
const inputs: ReadonlySet<string> = new Set(['ToolCall', 'OpenRun']);

/** OpenAPI 3.1 of the routes, from the schemas that also check; its schemas are JSON Schema 2020-12 as they are. */
export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = route.path.replace(/\{(\w+)\+\}/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Glovebox',
      version: 'v1',
      description:
        'Sandboxed execution of tool calls. Errors are problem details (RFC 9457); docs/errors.md lists their codes.',
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'glovebox key create makes one.' } },
      schemas: namedSchemas(),
      responses: {
        Problem: {
          description: 'What went wrong.',
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
    },
  };
}

function operationOf(route: Route): Json {
  const { operation, summary, tag, scope, reply } = route;
  const body = route.kind === 'http' ? route.body : undefined;
  return {
    operationId: operation,
    summary,
    tags: [tag],
    ...(scope === 'none' ? { security: [] } : { security: [{ key: [] }], 'x-glovebox-scope': scope }),
    ...(route.kind === 'websocket' ? { 'x-glovebox-websocket': true } : {}),
    parameters: parametersOf(route),
    ...(body === undefined ? {} : { requestBody: requestBodyOf(body) }),
    responses: {
      [String(reply.status ?? 200)]: responseOf(reply),
      default: reply.refusal === undefined ? { $ref: '#/components/responses/Problem' } : refusalOf(reply.refusal),
    },
  };
}

function refusalOf(schema: z.ZodType): Json {
  const problem = { schema: { $ref: '#/components/schemas/Problem' } };
  return {
    description: 'What went wrong.',
    content: { 'application/problem+json': problem, 'application/json': { schema: schemaOf(schema, 'output') } },
  };
}

function parametersOf({ params, query, headers }: Route): readonly Json[] {
  const header = Object.entries(headers).map(([name, description]) => ({
    name,
    in: 'header',
    description,
    required: false,
    schema: { type: 'string' },
  }));
  return [...fieldsOf(params, 'path'), ...(query === undefined ? [] : fieldsOf(query, 'query')), ...header];
}

function fieldsOf(schema: z.ZodType, place: 'path' | 'query'): readonly Json[] {
  const { properties = {}, required = [] } = schemaOf(schema, 'input') as {
    properties?: Record<string, Json>;
    required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...rest }]) => ({
    name,
    in: place,
    required: required.includes(name),
    ...(description === undefined ? {} : { description }),
    schema: rest,
  }));
}

function requestBodyOf(body: BodySpec): Json {
  if (body.kind === 'json')
    return {
      required: body.optional !== true,
      content: { 'application/json': { schema: schemaOf(body.schema, 'input') } },
    };
  return { required: true, content: { [body.contentType]: { schema: { type: 'string', format: 'binary' } } } };
}

function responseOf({ description, schema, also = [] }: ReplySpec): Json {
  const content: Record<string, Json> =
    schema === undefined ? {} : { 'application/json': { schema: schemaOf(schema, 'output') } };
  for (const type of also) content[type] = { schema: { type: 'string' } };
  return Object.keys(content).length === 0 ? { description } : { description, content };
}

function namedSchemas(): Json {
  const entries = Object.entries(named).map(
    ([name, schema]) => [name, wholeSchemaOf(schema, inputs.has(name) ? 'input' : 'output')] as const,
  );
  return Object.fromEntries(entries);
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const name = nameOf.get(schema);
  return name === undefined ? wholeSchemaOf(schema, io) : { $ref: `#/components/schemas/${name}` };
}

function wholeSchemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any', reused: 'inline' });
  return rest;
}

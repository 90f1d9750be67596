import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openApiDocument } from './openapi.ts';
import { allRoutes } from './routes.ts';

describe('the OpenAPI document', () => {
  const routes = allRoutes();
  const document = openApiDocument(routes);

  test('is the one in docs/openapi.json (make docs writes it)', () => {
    const page = readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8');
    expect(JSON.parse(page)).toEqual(JSON.parse(JSON.stringify(document)));
  });

  test('has every route once, under an id of its own', () => {
    const paths = document['paths'] as Record<string, Record<string, { operationId: string }>>;
    const operations = Object.values(paths).flatMap((path) =>
      Object.values(path).map(({ operationId }) => operationId),
    );
    expect(operations.toSorted()).toEqual(routes.map(({ operation }) => operation).toSorted());
    expect(new Set(operations).size).toBe(routes.length);
  });

  test('says of every parameter in a path that it is needed, and refuses unknown fields of every body', () => {
    const text = JSON.stringify(document);
    for (const { path, operation } of routes) {
      const names = [...path.matchAll(/\{(\w+)\+?\}/g)].map(([, name]) => name);
      const operations = Object.values(document['paths'] as Record<string, object>).flatMap((all) =>
        Object.values(all),
      );
      const found = operations.find((one) => one.operationId === operation);
      const inPath = found.parameters.filter((one: { in: string }) => one.in === 'path');
      expect(inPath.map((one: { name: string }) => one.name)).toEqual(names);
      expect(inPath.every((one: { required: boolean }) => one.required)).toBe(true);
    }
    expect(text).toContain('"additionalProperties":false');
  });
});

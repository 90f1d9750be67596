import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { describeTools, toolsPage } from './describe.ts';

test('docs/tools.md says what the schemas say', () => {
  const page = readFileSync(new URL('../../docs/tools.md', import.meta.url), 'utf8');
  expect(page, 'run: make docs').toBe(toolsPage());
});

test('every tool and every field is described', () => {
  for (const tool of describeTools()) {
    expect(tool.name).not.toBe('');
    expect(tool.description, tool.name).not.toBe('');
    const fields = tool.inputSchema['properties'] as Record<string, { description?: string }>;
    for (const [name, field] of Object.entries(fields)) expect(field.description, `${tool.name}.${name}`).toBeTruthy();
  }
});

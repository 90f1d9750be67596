import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const source = fileURLToPath(new URL('..', import.meta.url));

test('importing the client loads nothing but the client, errors and ids: no engine, no schema, no dependency', () => {
  const { files, packages } = loadedBy(resolve(source, 'client/client.ts'));
  const outside = [...files].map((file) => relative(source, file)).filter((name) => !name.startsWith('client/'));
  expect(outside.sort()).toEqual(['errors.ts', 'ids.ts']);
  expect([...packages].filter((name) => !name.startsWith('node:'))).toEqual([]);
});

test.each(['exec', 'files', 'close', 'approvals'])('glovebox %s loads no engine, no schema and no store', (command) => {
  const { packages, files } = loadedBy(resolve(source, `cli/drive/${command}.ts`));
  const heavy = [...packages].filter(
    (name) => !name.startsWith('node:') && !['commander', 'picocolors'].includes(name),
  );
  expect(heavy).toEqual([]);
  const names = [...files].map((file) => relative(source, file));
  expect(names.filter((name) => /^(engine|service|store|api|run)\/|^(main|runner)\.ts$/.test(name))).toEqual([]);
});

/** What is imported at once, with all that it imports in its turn; types and `import()` are not. */
function loadedBy(entry: string): { files: Set<string>; packages: Set<string> } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, kind = '', from = ''] of text.matchAll(/^(import|export)(?! type\b)[^;]*? from '([^']+)';/gm)) {
      expect(kind).not.toBe('');
      if (from.startsWith('.')) visit(resolve(dirname(file), from));
      else packages.add(from);
    }
  };
  visit(entry);
  return { files, packages };
}

import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { Numbers } from './stats.ts';

test('docs/stats.md defines every number, and no other', async () => {
  const page = await readFile(new URL('../../docs/stats.md', import.meta.url), 'utf8');
  const [, section = ''] = /## The numbers\n([^]*?)\n\*\*/.exec(page) ?? [];
  const defined = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, name = '']) => name);
  expect(defined).toEqual(Object.keys(Numbers.shape));
});

import { writeFileSync } from 'node:fs';
import { openApiDocument } from '../src/api/openapi.ts';
import { allRoutes } from '../src/api/routes.ts';
import { policyJsonSchema, policyReferencePage } from '../src/policy/language/reference-page.ts';
import { toolsPage } from '../src/tools/describe.ts';

/** Writes the pages that are made from the code (`make docs`). Tests fail when they are out of date. */
const pages: Readonly<Record<string, string>> = {
  'tools.md': toolsPage(),
  'policy-reference.md': policyReferencePage(),
  'openapi.json': `${JSON.stringify(openApiDocument(allRoutes()), undefined, 1)}\n`,
  'policy.schema.json': `${JSON.stringify(policyJsonSchema(), undefined, 2)}\n`,
};
for (const [name, text] of Object.entries(pages)) writeFileSync(new URL(`../docs/${name}`, import.meta.url), text);

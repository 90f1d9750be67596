import { writeFileSync } from 'node:fs';
import { toolsPage } from '../src/tools/describe.ts';

/** Writes the pages that are made from the code (`make docs`). Tests fail when they are out of date. */
writeFileSync(new URL('../docs/tools.md', import.meta.url), toolsPage());

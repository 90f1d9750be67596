import { readFileSync } from 'node:fs';
import { shipped } from './shipped.ts';

/** Of this glovebox. */
export function version(): string {
  const { version: text } = JSON.parse(readFileSync(shipped('package.json'), 'utf8')) as {
    version: string;
  };
  return text;
}

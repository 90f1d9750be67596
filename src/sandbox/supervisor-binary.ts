import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RunnerError } from '../errors.ts';

const architectures: ReadonlyMap<string, string> = new Map([
  ['amd64', 'x86_64'],
  ['x86_64', 'x86_64'],
  ['arm64', 'aarch64'],
  ['aarch64', 'aarch64'],
]);

/** The supervisor for an engine's architecture, as `make supervisor` builds it. The same place from `src/` and `dist/`. */
export function readSupervisor(architecture: string): Buffer {
  const name = `supervisor-${architectures.get(architecture) ?? architecture}`;
  const url = new URL(`../../images/supervisor/build/${name}`, import.meta.url);
  try {
    return readFileSync(url);
  } catch (cause) {
    throw new RunnerError('supervisor_missing', `there is no images/supervisor/build/${name}; run: make supervisor`, {
      cause,
    });
  }
}

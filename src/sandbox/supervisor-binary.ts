import { readFileSync } from 'node:fs';
import { digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { shipped } from '../shipped.ts';

const architectures: ReadonlyMap<string, string> = new Map([
  ['amd64', 'x86_64'],
  ['x64', 'x86_64'], // Node's word
  ['x86_64', 'x86_64'],
  ['arm64', 'aarch64'],
  ['aarch64', 'aarch64'],
]);

/** The supervisor for an engine's architecture, as `make supervisor` builds it. */
export function readSupervisor(architecture: string): Buffer {
  try {
    return readFileSync(supervisorPath(architecture));
  } catch (cause) {
    const name = nameFor(architecture);
    throw new RunnerError('supervisor_missing', `there is no images/supervisor/build/${name}; run: make supervisor`, {
      cause,
    });
  }
}

export function supervisorPath(architecture: string): string {
  return shipped(`images/supervisor/build/${nameFor(architecture)}`);
}

/** The volume that holds exactly these bytes. */
export function supervisorVolume(bytes: Uint8Array): string {
  return `glovebox-supervisor-${digestOf(bytes).slice(7, 23)}`;
}

function nameFor(architecture: string): string {
  return `supervisor-${architectures.get(architecture) ?? architecture}`;
}

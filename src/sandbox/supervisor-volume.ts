import type { Engine, Labels } from '../engine/engine.ts';
import { labelKeys } from '../engine/labels.ts';
import type { SandboxSpec } from './container-body.ts';
import { readSupervisor, supervisorVolume } from './supervisor-binary.ts';

/** One volume for each content, filled once per engine; returns its name. */
export async function ensureSupervisor(
  engine: Engine,
  spec: SandboxSpec,
  supervisor: Uint8Array | undefined,
): Promise<string> {
  const bytes = supervisor ?? readSupervisor((await engine.describe()).architecture);
  const volume = supervisorVolume(bytes);
  await engine.ensureFiles(volume, [{ path: 'supervisor', mode: 0o555, bytes }], spec.image, ownerOf(spec.labels));
  return volume;
}

/** By this label a later version finds the volume again and removes it. */
function ownerOf(labels: Labels): Labels {
  const owner = labels[labelKeys.owner];
  return owner === undefined ? {} : { [labelKeys.owner]: owner };
}

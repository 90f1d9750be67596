import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RunnerError, messageOf } from '../../errors.ts';
import type { VolumeKind, VolumeTrial } from '../engine.ts';
import { labelKeys } from '../labels.ts';
import { volumeAnswer } from './answers.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import type { Containers } from './containers.ts';
import { packFiles } from './files.ts';
import { overlayOptions } from './mounted-volume.ts';
import type { Timeouts } from './timeouts.ts';
import type { Volumes } from './volumes.ts';

/**
 * Mounts a volume of that kind by reading through a container that is created and never started. Engines accept any
 * options when a volume is made and only fail when it is mounted, so nothing less tells.
 */
export async function tryVolume(
  kind: VolumeKind,
  image: string,
  calls: DockerCalls,
  containers: Containers,
  volumes: Volumes,
  timeouts: Timeouts,
): Promise<VolumeTrial> {
  const name = `glovebox-trial-${randomBytes(8).toString('hex')}`;
  const layers = mkdtempSync(join(tmpdir(), 'glovebox-trial-'));
  try {
    const options =
      kind === 'overlay' ? overlayTrial(layers) : { type: 'tmpfs', device: 'tmpfs', o: `size=${boundBytes}` };
    const body = { Name: name, Driver: 'local', DriverOpts: options, Labels: { [labelKeys.filler]: name } };
    const call = { what: `create volume ${name}`, method: 'POST', path: pathOf(['volumes', 'create']), body } as const;
    await calls.json({ ...call, timeoutMs: timeouts.createMs }, volumeAnswer);
    const made = await containers.create(name, holder(name, image));
    if (made === undefined) return { works: false, detail: 'the name of the trial was taken' };
    const bytes = kind === 'bounded' ? boundBytes * 4 : 16;
    const path = pathOf(['containers', made.id, 'archive'], { path: '/files' });
    const write = { what: `write into volume ${name}`, method: 'PUT', path, contentType: 'application/x-tar' } as const;
    const tar = await packFiles([{ path: 'probe', mode: 0o600, bytes: Buffer.alloc(bytes) }]);
    const refusal = await refusalOf(() => calls.text({ ...write, body: tar, timeoutMs: timeouts.filesMs }));
    if (kind === 'overlay') return { works: refusal === undefined, detail: refusal ?? 'mounted and written' };
    const held = refusal?.includes('no space left') === true;
    return { works: held, detail: held ? 'stopped at its size' : (refusal ?? 'the size was not held') };
  } catch (error) {
    return { works: false, detail: messageOf(error) };
  } finally {
    await containers.destroy(name, timeouts.cleanUpMs);
    await volumes.removeOne(name);
    rmSync(layers, { recursive: true, force: true });
  }
}

const boundBytes = 1024 * 1024;

function overlayTrial(layers: string): Readonly<Record<string, string>> {
  for (const part of ['lower', 'upper', 'work']) mkdirSync(join(layers, part));
  const at = (part: string): string => join(layers, part);
  return overlayOptions({ lower: [at('lower')], upper: at('upper'), work: at('work') });
}

function holder(name: string, image: string): Readonly<Record<string, unknown>> {
  return {
    Image: image,
    Labels: { [labelKeys.filler]: name },
    Entrypoint: ['/never-started'],
    HostConfig: {
      NetworkMode: 'none',
      Mounts: [{ Type: 'volume', Source: name, Target: '/files', VolumeOptions: { NoCopy: true } }],
    },
  };
}

async function refusalOf(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (isAnswer(error)) return error.message;
    if (error instanceof RunnerError) return error.message;
    throw error;
  }
}

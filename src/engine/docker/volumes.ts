import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunnerError, messageOf } from '../../errors.ts';
import type { FoundVolume, Labels, VolumeFile } from '../engine.ts';
import { carries, labelKeys } from '../labels.ts';
import { volumeAnswer, volumesAnswer } from './answers.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import { type Containers, failed } from './containers.ts';
import { checkFiles, digestOfFiles, filesBytesMax, packFiles } from './files.ts';
import type { Timeouts } from './timeouts.ts';

/**
 * Read-only volumes of files, filled once per engine. A volume is filled and read back through a container that is
 * created and never started. That container's name is the lock: of several processes one fills, the others wait and
 * then find everything in place. What a crash left half-filled does not match its digest, and is filled again.
 */
export class Volumes {
  readonly #calls: DockerCalls;
  readonly #containers: Containers;
  readonly #timeouts: Timeouts;
  readonly #ensured = new Map<string, Promise<void>>();

  constructor(calls: DockerCalls, containers: Containers, timeouts: Timeouts) {
    this.#calls = calls;
    this.#containers = containers;
    this.#timeouts = timeouts;
  }

  /** Checked against the engine once per process, then remembered. */
  async ensureFiles(name: string, files: readonly VolumeFile[], image: string, labels: Labels): Promise<void> {
    const digest = digestOfFiles(files);
    const key = `${name} ${digest}`;
    const running =
      this.#ensured.get(key) ?? this.#ensure(name, files, image, { ...labels, [labelKeys.files]: digest });
    this.#ensured.set(key, running);
    try {
      await running;
    } catch (error) {
      if (this.#ensured.get(key) === running) this.#ensured.delete(key);
      throw error;
    }
  }

  /** Whatever was verified before is verified again: somebody has removed a volume. */
  forget(): void {
    this.#ensured.clear();
  }

  async remove(labels: Labels, keep: readonly string[]): Promise<readonly string[]> {
    const removed: string[] = [];
    for (const { name } of await this.list(labels)) {
      if (!keep.includes(name) && (await this.removeOne(name))) removed.push(name);
    }
    return removed;
  }

  /** False when somebody uses it. Absent is fine. */
  async removeOne(name: string): Promise<boolean> {
    const call = { what: `remove volume ${name}`, method: 'DELETE', path: pathOf(['volumes', name]) } as const;
    try {
      await this.#calls.text({ ...call, timeoutMs: this.#timeouts.destroyMs });
      return true;
    } catch (error) {
      if (isAnswer(error, 404)) return true;
      if (isAnswer(error, 409)) return false; // in use
      throw failed(call.what, error);
    }
  }

  async list(labels: Labels): Promise<readonly FoundVolume[]> {
    if (Object.keys(labels).length === 0) {
      throw new RunnerError('invalid_request', 'Volumes are only ever looked for by label; none was given.');
    }
    const filters = JSON.stringify({ label: Object.entries(labels).map(([key, value]) => labelFilter(key, value)) });
    const call = { what: 'list volumes', method: 'GET', path: pathOf(['volumes'], { filters }) } as const;
    try {
      const answer = await this.#calls.json({ ...call, timeoutMs: this.#timeouts.readMs }, volumesAnswer);
      const found = (answer.Volumes ?? []).map((volume) => ({ name: volume.Name, labels: volume.Labels ?? {} }));
      return found.filter((volume) => matches(volume.labels, labels));
    } catch (error) {
      throw failed(call.what, error);
    }
  }

  async findMountPoint(name: string): Promise<string | undefined> {
    const call = { what: `inspect volume ${name}`, method: 'GET', path: pathOf(['volumes', name]) } as const;
    try {
      return (await this.#calls.json({ ...call, timeoutMs: this.#timeouts.readMs }, volumeAnswer)).Mountpoint;
    } catch (error) {
      if (isAnswer(error, 404)) return undefined;
      throw failed(call.what, error);
    }
  }

  async #ensure(name: string, files: readonly VolumeFile[], image: string, labels: Labels): Promise<void> {
    const filler = await this.#lock(name, image, labels);
    try {
      const before = await this.#check(filler, files);
      if (before === undefined) return;
      const path = pathOf(['containers', filler, 'archive'], { path: mountPoint, noOverwriteDirNonDir: '1' });
      const call = { what: `fill volume ${name}`, method: 'PUT', path, contentType: 'application/x-tar' } as const;
      await this.#calls.text({ ...call, body: await packFiles(files), timeoutMs: this.#timeouts.filesMs });
      const after = await this.#check(filler, files);
      if (after === undefined) return;
      const next = `Remove it (docker volume rm ${name}) and try again.`;
      throw new RunnerError('policy_unenforceable', `Volume ${name} does not hold what was written: ${after}. ${next}`);
    } catch (error) {
      throw failed(`fill volume ${name}`, error);
    } finally {
      await this.#containers.destroy(filler, this.#timeouts.cleanUpMs);
    }
  }

  /** Makes the volume and the container that holds its lock; returns the container's id. */
  async #lock(name: string, image: string, labels: Labels): Promise<string> {
    const locked = `${name}-fill`;
    const body = {
      Image: image,
      Labels: { ...labels, [labelKeys.filler]: randomBytes(8).toString('hex') },
      Entrypoint: ['/never-started'],
      HostConfig: {
        NetworkMode: 'none',
        Mounts: [{ Type: 'volume', Source: name, Target: mountPoint, VolumeOptions: { NoCopy: true } }],
      },
    };
    let holder: string | undefined;
    const startMs = performance.now();
    let heldSinceMs = startMs;
    while (performance.now() - startMs < this.#timeouts.filesMs) {
      await this.#make(name, labels);
      const created = await this.#containers.create(locked, body);
      if (created !== undefined) return created.id;
      const found = await this.#containers.find(locked);
      if (found?.id !== holder) {
        holder = found?.id;
        heldSinceMs = performance.now();
      } else if (found !== undefined && performance.now() - heldSinceMs > lockStaleMs) {
        if (found.labels[labelKeys.filler] === undefined) break;
        await this.#containers.destroy(found.id); // its process died in the middle
      }
      await sleep(50);
    }
    throw new RunnerError(
      'engine_timeout',
      `Volume ${name} is being filled by another process, for more than ${this.#timeouts.filesMs} ms. ` +
        `If none is running, remove container ${locked} and try again.`,
    );
  }

  async #make(name: string, labels: Labels): Promise<void> {
    const body = { Name: name, Driver: 'local', Labels: labels };
    const call = { what: `create volume ${name}`, method: 'POST', path: pathOf(['volumes', 'create']), body } as const;
    try {
      // Safe to repeat: an existing volume of that name is the answer.
      const volume = await this.#calls.json({ ...call, timeoutMs: this.#timeouts.createMs }, volumeAnswer);
      const digest = volume.Labels?.[labelKeys.files];
      if (digest === labels[labelKeys.files]) return;
    } catch (error) {
      throw failed(call.what, error);
    }
    // Made by the engine itself for a container that named it, or by somebody else.
    if (await this.removeOne(name)) return await this.#make(name, labels);
    const message = `Volume ${name} is in use and not ours. Remove its containers and the volume, then try again.`;
    throw new RunnerError('engine_failed', message);
  }

  /** What differs from `files`; `undefined` when nothing does. */
  async #check(filler: string, files: readonly VolumeFile[]): Promise<string | undefined> {
    const path = pathOf(['containers', filler, 'archive'], { path: mountPoint });
    const call = { what: 'read a volume back', method: 'GET', path, timeoutMs: this.#timeouts.filesMs } as const;
    const archive = await this.#calls.bytes(call, filesBytesMax(files));
    try {
      return await checkFiles(archive, files);
    } catch (error) {
      return messageOf(error);
    }
  }
}

const mountPoint = '/files';

/** Filling takes well under a second. */
const lockStaleMs = 10_000;

/** An empty value asks for the key alone. */
function labelFilter(key: string, value: string): string {
  return value === '' ? key : `${key}=${value}`;
}

function matches(labels: Labels, wanted: Labels): boolean {
  const keys = Object.entries(wanted).filter(([, value]) => value === '');
  const pairs = Object.entries(wanted).filter(([, value]) => value !== '');
  return keys.every(([key]) => labels[key] !== undefined) && carries(labels, Object.fromEntries(pairs));
}

import { existsSync } from 'node:fs';
import { isRunnerError, messageOf } from '../errors.ts';
import type { Check } from './check.ts';
import type { Engine, EngineFacts, ImageFacts, Labels, VolumeKind } from './engine.ts';

/** What has to be tried out, because what an engine says of itself is not enough. Leaves nothing behind. */
export async function trials(
  engine: Engine,
  facts: EngineFacts,
  images: readonly ImageFacts[],
  labels: Labels,
): Promise<readonly Check[]> {
  return [
    await gvisor(engine, facts, images, labels),
    await overlay(engine, facts, images),
    await diskBound(engine, facts, images),
  ];
}

async function gvisor(
  engine: Engine,
  facts: EngineFacts,
  images: readonly ImageFacts[],
  labels: Labels,
): Promise<Check> {
  const check = { id: 'gvisor', means: 'Policies may ask for `runtime: runsc`, a kernel of its own for each sandbox.' };
  const without = { ...check, means: 'Policies that ask for `runtime: runsc` are refused.' };
  if (!facts.runtimes.includes('runsc')) {
    const remedy =
      'Install runsc, name it under "runtimes" in /etc/docker/daemon.json, and restart the engine: https://gvisor.dev/docs/user_guide/install/.';
    return { ...without, ok: 'limited', found: 'runsc is not a runtime of this engine', remedy };
  }
  if (!facts.enforces.gvisor) {
    const found = 'runsc is listed with --ignore-cgroups: it would hold no limit';
    return {
      ...without,
      ok: 'limited',
      found,
      remedy: 'Take --ignore-cgroups out of its runtimeArgs in /etc/docker/daemon.json.',
    };
  }
  const [image] = images;
  if (image === undefined)
    return { ...check, ok: 'limited', found: 'runsc is listed; not tried: there is no image', remedy: 'make images' };
  const failure = await failureOf(() => tryRunsc(engine, image.id, labels));
  if (failure === undefined)
    return { ...check, ok: 'yes', found: 'runsc is listed, and a container ran under it', remedy: '' };
  const remedy = 'Try `docker run --runtime=runsc`; without KVM it needs "runtimeArgs": ["--platform=ptrace"].';
  return { ...without, ok: 'limited', found: `runsc is listed and does not start: ${failure}`, remedy };
}

/** A program that no image has: gVisor has started once it says so. */
async function tryRunsc(engine: Engine, image: string, labels: Labels): Promise<void> {
  const program = '/glovebox-doctor';
  const name = `glovebox-doctor-${process.pid}-${Date.now().toString(36)}`;
  const limits = { memoryBytes: 256 * 1024 * 1024, pidsMax: 512, cpus: 1, openFilesMax: 1024, shmBytes: 65_536 };
  try {
    const started = await engine.start({
      name,
      image,
      labels,
      argv: [program],
      env: [],
      runtime: 'runsc',
      workdir: '/',
      hostname: 'doctor',
      limits,
      tmpfs: [],
      volumes: [],
      seccomp: JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }),
    });
    started.stream.duplex.on('error', () => undefined);
    started.stream.duplex.destroy();
    await engine.destroy(started.id);
  } catch (error) {
    if (!isRunnerError(error, 'supervisor_missing')) throw error;
  }
}

async function overlay(engine: Engine, facts: EngineFacts, images: readonly ImageFacts[]): Promise<Check> {
  const works = 'Workspaces can be layers over a shared base: opened in milliseconds whatever their size.';
  const fails = 'Workspaces are copied into each sandbox: the same result, slower for large trees.';
  const check = { id: 'overlay-volumes' };
  if (!facts.local)
    return { ...check, ok: 'limited', found: 'not tried: the engine is elsewhere', means: fails, remedy: '' };
  if (facts.rootless)
    return { ...check, ok: 'limited', found: 'not tried: the engine is rootless', means: fails, remedy: '' };
  if (process.getuid?.() !== 0) {
    const remedy = 'Run the runner as root to use them.';
    return { ...check, ok: 'limited', found: 'not tried: this process is not root', means: fails, remedy };
  }
  const trial = await tryOut(engine, 'overlay', images);
  return {
    ...check,
    ok: trial.works ? 'yes' : 'limited',
    found: trial.detail,
    means: trial.works ? works : fails,
    remedy: trial.remedy,
  };
}

async function diskBound(engine: Engine, facts: EngineFacts, images: readonly ImageFacts[]): Promise<Check> {
  const trial = await tryOut(engine, 'bounded', images);
  const loop = facts.local && !facts.rootless && process.getuid?.() === 0 && canUseLoopImages();
  return {
    id: 'disk-bound',
    ok: trial.works || loop ? 'yes' : 'limited',
    found: `volume in memory with a size: ${trial.detail}; loop images: ${loop ? 'possible' : 'not possible (needs root, a local engine that runs as root, and /dev/loop-control)'}`,
    means: 'What a sandbox writes is bounded: by its tmpfs always, on disk where loop images are possible.',
    remedy: trial.works ? '' : trial.remedy,
  };
}

async function tryOut(
  engine: Engine,
  kind: VolumeKind,
  images: readonly ImageFacts[],
): Promise<{ works: boolean; detail: string; remedy: string }> {
  const [image] = images;
  if (image === undefined) return { works: false, detail: 'not tried: there is no image', remedy: 'make images' };
  try {
    return { ...(await engine.tryVolume(kind, image.id)), remedy: '' };
  } catch (error) {
    return { works: false, detail: messageOf(error), remedy: '' };
  }
}

function canUseLoopImages(): boolean {
  const mkfs = ['/sbin/mkfs.ext4', '/usr/sbin/mkfs.ext4'].some((path) => existsSync(path));
  return existsSync('/dev/loop-control') && mkfs;
}

async function failureOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

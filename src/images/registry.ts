import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { digestPattern, type Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { Workshop } from './bootstrap.ts';
import type { ImageLock } from './lock.ts';
import type { Recipe } from './recipe.ts';
import { repack } from './repack.ts';

/** The docker command line, for the engine that images go to: arguments in, standard output out. */
export type DockerCli = (args: readonly string[], timeoutMs: number) => Promise<string>;

export type PinnedBase = NonNullable<ImageLock['base']>;

/**
 * Which official image to start from, by digest. The lock's digest holds; only where there is none yet, or with `update`, is
 * the tag asked for one: trust on first use, said in the lock and from then on in every review of it.
 */
export async function resolveBase(
  recipe: Recipe,
  pinned: PinnedBase | undefined,
  docker: DockerCli,
  update: boolean,
): Promise<PinnedBase> {
  if (pinned !== undefined && pinned.reference === recipe.registryBase && !update) {
    await pull(`${repositoryOf(pinned.reference)}@${pinned.digest}`, docker);
    return pinned;
  }
  await pull(recipe.registryBase, docker);
  const answer = await docker(['image', 'inspect', '--format', '{{json .RepoDigests}}', recipe.registryBase], 30_000);
  const digests = z.array(z.string()).nullable().parse(JSON.parse(answer)) ?? [];
  const repository = repositoryOf(recipe.registryBase);
  const digest = digests
    .find((entry) => entry.startsWith(`${repository}@`) || entry.includes(`/${repository}@`))
    ?.split('@')[1];
  if (digest === undefined || !digestPattern.test(digest)) {
    throw new RunnerError(
      'engine_failed',
      `${recipe.registryBase}: the engine knows no digest for it, so it did not come from a registry; build from Debian packages instead (without --from registry)`,
    );
  }
  return { reference: recipe.registryBase, digest: digest as Digest };
}

/** Builds the image's Dockerfile on the pinned base and returns the flattened root file system's tar. */
export async function buildOnBase(
  recipe: Recipe,
  base: PinnedBase,
  dockerfile: string,
  workshop: Workshop,
  docker: DockerCli,
): Promise<string> {
  const context = join(workshop.dir, 'context');
  await mkdir(context);
  await copyFile(dockerfile, join(context, 'Dockerfile'));
  await copyFile(workshop.finishScript, join(context, 'finish.sh'));
  if (workshop.filesTar !== undefined) await copyFile(workshop.filesTar, join(context, 'files.tar'));
  workshop.onProgress(`building on ${base.reference} at ${base.digest}`);
  const tag = `glovebox-build/${recipe.image}:${process.pid}`;
  const name = `glovebox-build-${recipe.image}-${process.pid}`;
  const exported = join(workshop.dir, 'exported.tar');
  try {
    await docker(['build', ...buildArguments(base), '--force-rm', '--tag', tag, context], 900_000);
    workshop.onProgress('packing the root file system');
    await docker(['create', '--name', name, '--network', 'none', tag, '/bin/true'], 60_000);
    await docker(['export', '--output', exported, name], 300_000);
  } finally {
    await docker(['rm', '--force', name], 60_000).catch(() => undefined);
    await docker(['image', 'rm', '--force', tag], 60_000).catch(() => undefined);
  }
  const rootfs = join(workshop.dir, 'rootfs.tar');
  await repack([exported], rootfs, recipe.sourceDateEpoch);
  return rootfs;
}

export function buildArguments(base: PinnedBase): readonly string[] {
  return ['--build-arg', `BASE=${repositoryOf(base.reference)}@${base.digest}`];
}

async function pull(reference: string, docker: DockerCli): Promise<void> {
  try {
    await docker(['pull', '--quiet', reference], 180_000);
  } catch (error) {
    const next = 'check that the engine reaches a registry, or build from Debian packages (without --from registry)';
    throw new RunnerError('engine_failed', `pulling ${reference} failed; ${next}`, { cause: error });
  }
}

function repositoryOf(reference: string): string {
  return reference.slice(0, reference.lastIndexOf(':'));
}

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import { believedKeysDir, believeKey } from '../../bundle/believed-keys.ts';
import { describeRun, sealBundle } from '../../bundle/export.ts';
import type { RemoteRun } from '../../client/client.ts';
import type { Manifest } from '../../bundle/manifest.ts';
import { publishBundle } from '../../bundle/publish.ts';
import { openSigningKey, type SigningKey } from '../../bundle/signing-key.ts';
import { loadConfig } from '../../config.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { atRun } from '../run-place.ts';
import { bytesText, print, printJson, say } from '../terminal.ts';

interface Exported {
  readonly file: string;
  readonly run: string;
  /** Where it was made here. */
  readonly made?: {
    /** Digest: what reviews and promotions are bound to. */
    readonly manifest: string;
    readonly bytes: number;
    readonly signedBy: string;
    readonly verification: NonNullable<Manifest['verification']> | null;
  };
}

export function exportCommand(program: Command, context: CliContext): void {
  program
    .command('export')
    .description('all that a closed run has left, in one signed file that glovebox check verifies anywhere')
    .argument('<run>', 'name, id, or the beginning of one')
    .option('-o, --output <file>', 'where to; default <run>.glovebox.tar')
    .option('--json', 'what was written, as JSON')
    .action(async (name: string, options: { output?: string; json?: boolean }) => {
      const exported = await atRun(context, name, async (place) => {
        if (place.kind === 'service') return fetched(place.run, options.output);
        const { id } = place.dir;
        const dataDir = await context.openDataDir();
        const described = await describeRun(dataDir, id);
        const key = await ownKey(dataDir.path);
        return write(sealBundle(described, key), options.output ?? `${id}.glovebox.tar`, key);
      });
      const { file, run, made } = exported;
      if (options.json === true) printJson({ file, run, ...made });
      else for (const line of linesOf(exported)) print(line);
    });
}

export function signingKeyCommand(program: Command, context: CliContext): void {
  program
    .command('signing-key')
    .description('the public key of this machine, which its bundles are checked with; one is made where there is none')
    .option(
      '--believe <file>',
      'from now on a public key besides it: an earlier one of this machine, or of the one that this was restored from',
    )
    .option('--json', 'with its id, as JSON')
    .action(async (options: { believe?: string; json?: boolean }) => {
      const { path } = await context.openDataDir();
      if (options.believe !== undefined) return believe(path, options.believe, options.json === true);
      const { id, publicPem } = await ownKey(path);
      if (options.json === true) printJson({ id, publicKey: publicPem });
      else process.stdout.write(publicPem);
    });
}

async function believe(dataDir: string, file: string, json: boolean): Promise<void> {
  const pem = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `--believe ${file} cannot be read: ${messageOf(cause)}`, { cause });
  });
  const id = await believeKey(dataDir, pem, `--believe ${file}`);
  if (json) printJson({ id, believed: true });
  else print(`${id} is believed; to take that back, remove it from ${join(dataDir, believedKeysDir)}`);
}

/** A new one is said: whoever is to check what it signs needs its public half. */
export async function ownKey(dataDir: string): Promise<SigningKey> {
  const key = await openSigningKey(dataDir, (await loadConfig()).signing);
  if (key.made)
    say(pc.dim(`glovebox: made the signing key of this machine, ${key.id}; its public half:\n${key.publicPem}`));
  return key;
}

async function write(bundle: ReturnType<typeof sealBundle>, file: string, key: SigningKey): Promise<Exported> {
  await publishBundle(bundle, file);
  const { manifest, digest, bytes } = bundle;
  const verification = manifest.verification ?? null;
  return { file, run: manifest.run, made: { manifest: digest, bytes, signedBy: key.id, verification } };
}

/** Signed by the service's machine, whose public key its operator gives. */
async function fetched(run: RemoteRun, output: string | undefined): Promise<Exported> {
  const file = output ?? `${run.id}.glovebox.tar`;
  const body = await run.bundle();
  await publishBundle({ chunks: () => body }, file);
  return { file, run: run.id };
}

function linesOf({ file, run, made }: Exported): readonly string[] {
  const next = pc.dim(`next: glovebox check ${file} --key PUB; glovebox signing-key prints PUB where it was made`);
  if (made === undefined) return [pc.bold(file), next];
  const { manifest, bytes, signedBy, verification } = made;
  const judged =
    verification === null
      ? pc.yellow(`nobody has verified it; glovebox verify ${run}`)
      : `verification ${verification.id}: ${verification.verdict}`;
  return [
    `${pc.bold(file)}  ${bytesText(bytes)}`,
    `  manifest ${manifest}`,
    `  ${judged}`,
    `  signed by key ${signedBy}`,
    next,
  ];
}

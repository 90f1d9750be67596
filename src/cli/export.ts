import type { Command } from 'commander';
import pc from 'picocolors';
import { describeRun, sealBundle } from '../bundle/export.ts';
import type { Manifest } from '../bundle/manifest.ts';
import { publishBundle } from '../bundle/publish.ts';
import { openSigningKey, type SigningKey } from '../bundle/signing-key.ts';
import { loadConfig } from '../config.ts';
import { RunnerError } from '../errors.ts';
import type { CliContext } from './context.ts';
import { atRun } from './run-place.ts';
import { bytesText, print, printJson, say } from './terminal.ts';

interface Exported {
  readonly file: string;
  readonly run: string;
  /** What reviews and promotions are bound to. */
  readonly manifest: string;
  readonly bytes: number;
  readonly signedBy: string;
  readonly verification: NonNullable<Manifest['verification']> | null;
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
        if (place.kind === 'service')
          throw new RunnerError('invalid_request', `run ${name} is at a service; export it on the machine that has it`);
        const { id } = place.dir;
        const dataDir = await context.openDataDir();
        const described = await describeRun(dataDir, id);
        const key = await ownKey(dataDir.path);
        return write(sealBundle(described, key), options.output ?? `${id}.glovebox.tar`, key);
      });
      if (options.json === true) printJson(exported);
      else for (const line of linesOf(exported)) print(line);
    });
}

export function signingKeyCommand(program: Command, context: CliContext): void {
  program
    .command('signing-key')
    .description('the public key of this machine, which its bundles are checked with; one is made where there is none')
    .option('--json', 'with its id, as JSON')
    .action(async (options: { json?: boolean }) => {
      const { id, publicPem } = await ownKey((await context.openDataDir()).path);
      if (options.json === true) printJson({ id, publicKey: publicPem });
      else process.stdout.write(publicPem);
    });
}

/** A new one is said: whoever is to check what it signs needs its public half. */
async function ownKey(dataDir: string): Promise<SigningKey> {
  const key = await openSigningKey(dataDir, (await loadConfig()).signing);
  if (key.made)
    say(pc.dim(`glovebox: made the signing key of this machine, ${key.id}; its public half:\n${key.publicPem}`));
  return key;
}

async function write(bundle: ReturnType<typeof sealBundle>, file: string, key: SigningKey): Promise<Exported> {
  await publishBundle(bundle, file);
  const { manifest, digest, bytes } = bundle;
  const verification = manifest.verification ?? null;
  return { file, run: manifest.run, manifest: digest, bytes, signedBy: key.id, verification };
}

function linesOf({ file, run, manifest, bytes, signedBy, verification }: Exported): readonly string[] {
  const judged =
    verification === null
      ? pc.yellow(`nobody has verified it; glovebox verify ${run}`)
      : `verification ${verification.id}: ${verification.verdict}`;
  return [
    `${pc.bold(file)}  ${bytesText(bytes)}`,
    `  manifest ${manifest}`,
    `  ${judged}`,
    `  signed by key ${signedBy}`,
    pc.dim(`next: glovebox signing-key > key.pem; glovebox check ${file} --key key.pem`),
  ];
}

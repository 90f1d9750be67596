import { Option, type Command } from 'commander';
import pc from 'picocolors';
import { buildImage } from '../../images/build.ts';
import { listImages } from '../../images/list.ts';
import { imageNames } from '../../images/recipe.ts';
import { verifyImage } from '../../images/verify.ts';
import { printable } from '../../journal/printable.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { bytesText, durationText, print, printJson, say, table } from '../terminal.ts';

export function imageCommand(program: Command, context: CliContext): void {
  const image = program.command('image').description('the images that sandboxes are made of: build, list, verify');
  image
    .command('build')
    .description('build images from their recipes and accept them by digest')
    .argument('[names...]', 'which (default: all)')
    .option('--update', 'write what was built into the lock and the package list')
    .option('--rebuild', 'even where the engine has it')
    .option('--missing', 'say nothing of those that are there')
    .addOption(
      new Option('--from <source>', 'debian: bootstrap; registry: pinned official base; auto: what this machine can')
        .choices(['auto', 'debian', 'registry'] satisfies BuildOptions['from'][])
        .default('auto'),
    )
    .option('--json', 'as JSON')
    .action((names: string[], options: BuildOptions) => build(names, options, context));
  image
    .command('ls')
    .description('the images, their packages and their digests')
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) => list(options, context));
  image
    .command('verify')
    .description("hold the engine's images against their locks")
    .argument('[names...]', 'which (default: all)')
    .option('--allow-moved', 'packages newer than the lock are fine')
    .option('--json', 'as JSON')
    .action((names: string[], options: { allowMoved?: boolean; json?: boolean }) => verify(names, options, context));
}

interface BuildOptions {
  readonly update?: boolean;
  readonly rebuild?: boolean;
  readonly missing?: boolean;
  readonly from: 'auto' | 'debian' | 'registry';
  readonly json?: boolean;
}

async function build(names: string[], options: BuildOptions, context: CliContext): Promise<void> {
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  for (const name of names.length > 0 ? names : await imageNames()) {
    const startedMs = performance.now();
    const built = await buildImage(name, {
      engine,
      dataDir: dataDir.path,
      onProgress: (line) => say(printable(line)),
      from: options.from,
      update: options.update === true,
      rebuild: options.rebuild === true,
    });
    if (options.json === true) printJson(built);
    else if (!built.upToDate)
      print(
        `${pc.green('built')} ${name}  ${built.id.slice(0, 19)}  ${built.state}  ${durationText(performance.now() - startedMs)}`,
      );
    else if (options.missing !== true) print(`${name} is up to date  ${built.id.slice(0, 19)}  ${built.state}`);
  }
}

async function list(options: { json?: boolean }, context: CliContext): Promise<void> {
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  const images = await listImages({ engine, dataDir: dataDir.path });
  if (options.json === true) return printJson(images);
  const rows = images.map((image) => [
    image.name,
    image.state,
    image.id?.slice(0, 19) ?? '-',
    `${image.packages}`,
    image.bytes === undefined ? '-' : bytesText(image.bytes),
  ]);
  print(table([['IMAGE', 'STATE', 'ID', 'PACKAGES', 'SIZE'], ...rows]));
}

async function verify(
  names: string[],
  options: { allowMoved?: boolean; json?: boolean },
  context: CliContext,
): Promise<void> {
  const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
  let good = true;
  for (const name of names.length > 0 ? names : await imageNames()) {
    const result = await verifyImage(name, {
      engine,
      dataDir: dataDir.path,
      onProgress: (line) => say(printable(line)),
    });
    good &&= result.verdict === 'verified' || (result.verdict === 'moved' && options.allowMoved === true);
    if (options.json === true) printJson(result);
    else {
      print(
        `${result.verdict === 'verified' ? pc.green(result.verdict) : pc.yellow(result.verdict)}  ${name}  ${result.id?.slice(0, 19) ?? ''}`,
      );
      for (const line of result.differences.slice(0, 20)) print(`    ${line}`);
    }
  }
  throw new Exit(good ? exitCodes.ok : exitCodes.failed);
}

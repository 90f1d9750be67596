import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { GloveboxClient, OpenRunInput } from '../../client/client.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import type { CliContext } from '../context.ts';
import { Interruption } from '../interruption.ts';
import { openService, workspacePath } from '../service.ts';
import { print, printJson, say } from '../terminal.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly name?: string;
  readonly policy: string;
  readonly class?: string;
  readonly workspace?: string;
  readonly upload?: string;
  readonly image?: string;
  readonly intent?: string;
  readonly json?: boolean;
}

export function openCommand(program: Command, _context: CliContext): void {
  program
    .command('open')
    .description(
      'open a run that stays open: glovebox exec, read, write, edit, patch work in it, glovebox close ends it',
    )
    .option('-n, --name <name>', 'a name to call it by')
    .option('-p, --policy <policy>', 'a policy file, or the name of one that the service offers', 'default')
    .option('-c, --class <name>', 'task class, where the policy has classes')
    .option('-w, --workspace <dir>', 'directory whose allowed files are copied in (default: an empty workspace)')
    .option(
      '--upload <dir>',
      'the same, sent to the service: it may be on another machine (what git ignores stays here)',
    )
    .option('-i, --image <image>', "one of the policy's images")
    .option('--intent <text>', 'what the run is for; recorded first')
    .option('--json', 'the run as JSON')
    .action(async (options: Options) => {
      const request = await requestOf(options);
      const client = await openService();
      const interruption = new Interruption('the run');
      try {
        const { signal } = interruption;
        const uploaded = options.upload === undefined ? {} : { uploaded: await upload(client, options.upload, signal) };
        const run = await client.runs.open({ ...request, ...uploaded }, { signal });
        if (options.json === true) printJson(await run.view());
        else print(run.id);
        const name = options.name ?? run.id;
        if (options.json !== true)
          say(`glovebox: open; next: glovebox exec ${name} -- COMMAND   glovebox close ${name}`);
      } finally {
        interruption.end();
        await client.close();
      }
    });
}

async function requestOf(options: Options): Promise<OpenRunInput> {
  const { name, class: taskClass, workspace, image, intent } = options;
  return {
    policy: await policyOf(options.policy),
    ...(name === undefined ? {} : { name }),
    ...(taskClass === undefined ? {} : { taskClass }),
    ...(workspace === undefined ? {} : { workspace: workspacePath(workspace) }),
    ...(image === undefined ? {} : { image }),
    ...(intent === undefined ? {} : { intent }),
  };
}

async function upload(client: GloveboxClient, directory: string, signal: AbortSignal): Promise<string> {
  const { packWorkspace } = await import('./pack-workspace.ts');
  const { id, files, bytes } = await client.workspaces.upload(packWorkspace(resolve(directory)), signal);
  say(`glovebox: uploaded ${plural(files, 'file')}, ${Math.ceil(bytes / 1024)} KiB, as workspace ${id}`);
  return id;
}

/** What looks like a file is one, and its text is sent. */
async function policyOf(policy: string): Promise<{ name: string } | { text: string }> {
  const isFile = /[/.]/.test(policy) || (await stat(policy).catch(() => undefined))?.isFile() === true;
  if (!isFile) return { name: policy };
  const text = await readFile(policy, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('invalid_policy', `the policy ${policy} cannot be read: ${messageOf(cause)}`, { cause });
  });
  return { text };
}

import type { Command } from 'commander';
import pc from 'picocolors';
import { RunnerError, messageOf } from '../../errors.ts';
import { openInput, type InputSpec } from '../../inputs/open-input.ts';
import { printable } from '../../journal/printable.ts';
import type { LoadedPolicy } from '../../policy/policy.ts';
import { loadPolicyFor } from '../../policy/layers/repository-layer.ts';
import { explainFiles, type ExplainedFile, type FilesExplained } from '../../workspace/scope/explain.ts';
import type { CliContext } from '../context.ts';
import { bytesText, print, printJson, table } from '../terminal.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly policy?: string;
  readonly class?: string;
  readonly workspace: string;
  readonly status?: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

const statuses = ['write', 'read', 'scratch', 'absent'] as const;

export function explainFilesCommand(program: Command, context: CliContext): void {
  program
    .command('explain-files')
    .description('what a run would find in its workspace: writable, read-only, scratch, absent, and why; opens nothing')
    .option('-p, --policy <file>', 'policy file (default: the shipped "default" policy)')
    .option('-c, --class <name>', 'task class, where the policy has classes')
    .option('-w, --workspace <dir>', 'directory to explain', '.')
    .option('--status <status>', `only these: ${statuses.join(', ')}`)
    .option('--all', 'every path; otherwise a directory whose files all have one reason is one line')
    .option('--json', 'as JSON, every path')
    .action(async (options: Options) => {
      if (options.status !== undefined && !statuses.some((status) => status === options.status))
        throw new RunnerError('invalid_request', `--status wants one of ${statuses.join(', ')}, not ${options.status}`);
      const { policy: name = 'default', workspace, class: taskClass } = options;
      const policy = await loadPolicyFor(name, workspace, { taskClass });
      const { includeIgnored, ...lists } = policy.policy.files;
      const explained = await explainFiles(options.workspace, lists, { includeIgnored: includeIgnored ? ['**'] : [] });
      const apart = [(await context.openDataDir()).path, explained.root];
      const inputs = await Promise.all(policy.policy.inputs.map((input) => explainInput(input, lists.deny, apart)));
      const shown = explained.entries.filter(({ status }) => options.status === undefined || status === options.status);
      if (options.json === true) printJson({ ...documentOf(explained, shown, policy), inputs });
      else print([textOf(explained, shown, policy, options.all === true), ...inputLines(inputs)].join('\n'));
    });
}

interface ExplainedInput extends InputSpec {
  readonly files?: number;
  /** Why no run of this policy would open. */
  readonly refused?: string;
}

/** All that can be said without an engine; where the engine keeps its own is asked when a run opens. */
async function explainInput(
  input: InputSpec,
  deny: readonly string[],
  apart: readonly string[],
): Promise<ExplainedInput> {
  try {
    const { handle, files } = await openInput(input, { deny, apart });
    await handle.close();
    return { ...input, files };
  } catch (error) {
    return { ...input, refused: messageOf(error) };
  }
}

function inputLines(inputs: readonly ExplainedInput[]): readonly string[] {
  if (inputs.length === 0) return [];
  const rows = inputs.map(({ source, target, files, refused }) => [
    refused === undefined ? 'input' : pc.red('refused'),
    printable(target),
    files === undefined ? '' : plural(files, 'file'),
    pc.dim(printable(refused ?? `inputs ${source}, read-only`)),
  ]);
  return ['', table(rows)];
}

function documentOf(explained: FilesExplained, shown: readonly ExplainedFile[], policy: LoadedPolicy): object {
  return {
    ...explained,
    policy: { name: policy.policy.name, digest: policy.digest },
    counts: countsOf(explained.entries),
    entries: shown,
  };
}

function countsOf(entries: readonly ExplainedFile[]): Record<ExplainedFile['status'], number> {
  const counts = { write: 0, read: 0, scratch: 0, absent: 0 };
  for (const { status } of entries) counts[status] += 1;
  return counts;
}

function textOf(
  explained: FilesExplained,
  shown: readonly ExplainedFile[],
  policy: LoadedPolicy,
  everyPath: boolean,
): string {
  const counts = countsOf(explained.entries);
  const bytes = explained.entries.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0);
  const of = explained.kind === 'git' ? 'git work tree' : 'directory';
  const rows = everyPath ? shown.map((entry) => ({ entry, path: entry.path, files: 1 })) : folded(shown);
  return [
    `${of} ${printable(explained.root)}, policy ${policy.policy.name}`,
    `${counts.write} writable, ${counts.read} read-only, ${counts.scratch} scratch (${bytesText(bytes)} in all); ${counts.absent} absent`,
    ...(explained.entriesLeftOut > 0 ? [`${explained.entriesLeftOut} more absent paths are not listed`] : []),
    '',
    table(
      rows.map(({ entry, path, files }) => [
        entry.status,
        printable(path),
        files > 1 ? `${files} files` : '',
        pc.dim(printable(entry.why.text)),
      ]),
    ),
  ].join('\n');
}

interface Row {
  readonly entry: ExplainedFile;
  readonly path: string;
  readonly files: number;
}

/** Sorted entries, with every directory of which all have the same status for the same reason in one row. */
function folded(entries: readonly ExplainedFile[], above = ''): readonly Row[] {
  const groups = new Map<string, ExplainedFile[]>();
  for (const entry of entries) {
    const rest = entry.path.slice(above.length);
    const slash = rest.indexOf('/');
    // A file and what lies in a directory never have one name.
    const key = slash < 0 ? entry.path : `${above}${rest.slice(0, slash)}/`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [entry]);
    else group.push(entry);
  }
  return [...groups].flatMap(([path, inside]) => {
    const [first] = inside;
    if (first === undefined) return [];
    const one = inside.every(({ status, why }) => status === first.status && why.text === first.why.text);
    if (!path.endsWith('/')) return [{ entry: first, path, files: 1 }];
    return one ? [{ entry: first, path, files: inside.length }] : folded(inside, path);
  });
}

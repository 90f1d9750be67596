import { encodePath } from '../../bytes-path.ts';
import { sortedByBytes } from '../diff.ts';
import { askGit, splitNames } from '../base/host-git.ts';
import { Scope, secretGlobs, type FileScope, type ScopeReason } from './scope.ts';
import type { LeftOutReason } from '../base/left-out.ts';
import { selectFiles, type Selection, type SelectOptions } from '../base/select.ts';

/**
 * What a run on this directory would find in its workspace, path by path, and why: the same selection and the same scope
 * that a run opens with. Nothing is read but names, kinds and sizes.
 */
export async function explainFiles(
  directory: string,
  files: FileScope,
  options: SelectOptions = {},
): Promise<FilesExplained> {
  const scope = Scope.compile(files);
  const selection = await selectFiles(directory, scope, { leftOutExamplesMax: pathsMax, ...options });
  const entries = new Map<string, ExplainedFile>();
  for (const file of selection.files) {
    const why = scope.explain(file.path);
    const sizeBytes = file.kind === 'file' ? file.sizeBytes : 0;
    entries.set(file.path, { path: file.path, status: why.class, why: reasonOfScope(why), sizeBytes });
  }
  const ignoredBy = await ignoreRulesOf(selection);
  for (const { path, reason } of selection.leftOut.examples) {
    entries.set(path, {
      path,
      status: 'absent',
      why: reasonOfAbsence(reason, scope.explain(path), ignoredBy.get(path)),
    });
  }
  const { root, kind, checkout, leftOut } = selection;
  const head = checkout.commit;
  const left = Object.values(leftOut.counts).reduce((sum, count) => sum + count, 0);
  return {
    root,
    kind,
    ...(head === undefined ? {} : { head }),
    entries: [...sortedByBytes(entries).values()],
    entriesLeftOut: left - leftOut.examples.length,
  };
}

export interface FilesExplained {
  readonly root: string;
  readonly kind: 'git' | 'plain';
  readonly head?: string;
  /** Files and links; a directory that was not entered is one entry. Sorted by path. */
  readonly entries: readonly ExplainedFile[];
  /** Absent paths beyond the first 100,000, which are not listed. */
  readonly entriesLeftOut: number;
}

export interface ExplainedFile {
  readonly path: string;
  /** `read`: there and locked. `write`: there, changes come out. `scratch`: there, changes stay inside. */
  readonly status: 'read' | 'write' | 'scratch' | 'absent';
  readonly why: Why;
  readonly sizeBytes?: number;
}

export interface Why {
  readonly kind: 'listed' | 'secret' | LeftOutReason;
  /** For people: the list and the glob, or the rule of git, that decided. */
  readonly text: string;
}

const pathsMax = 100_000;
const secrets: ReadonlySet<string> = new Set(secretGlobs);

function reasonOfScope(why: ScopeReason): Why {
  return { kind: 'listed', text: `files.${why.list ?? ''} ${why.glob ?? ''}` };
}

function reasonOfAbsence(reason: LeftOutReason, why: ScopeReason, ignoredBy: string | undefined): Why {
  switch (reason) {
    case 'denied': {
      const text = `files.deny ${why.glob ?? ''}${why.above === undefined ? '' : ` (with ${why.above})`}`;
      return secrets.has(why.glob ?? '')
        ? { kind: 'secret', text: `${text}: such names usually hold secrets` }
        : { kind: reason, text };
    }
    case 'out_of_scope':
      return { kind: reason, text: outOfScope(why) };
    case 'ignored':
      return { kind: reason, text: `ignored by git${ignoredBy === undefined ? '' : `: ${ignoredBy}`}` };
    case 'submodule':
      return { kind: reason, text: 'a submodule: its files belong to another repository' };
    case 'nested_repository':
      return { kind: reason, text: 'a repository of its own inside this one' };
    case 'special_file':
      return { kind: reason, text: 'a device, socket or pipe' };
    case 'link_leaves_tree':
      return { kind: reason, text: 'a link that leads out of the workspace' };
    case 'missing':
      return { kind: reason, text: 'tracked by git, but not there, or behind a link' };
  }
}

function outOfScope(why: ScopeReason): string {
  if (why.takenAwayBy !== undefined) return `files.${why.takenAwayBy.list} ${why.takenAwayBy.glob} takes it away`;
  if (why.class === 'scratch') return `files.scratch ${why.glob ?? ''}, and files.read does not name it`;
  return 'no list names it';
}

/** Which line of which ignore file, for the ignored ones; a directory may be ignored file by file. */
async function ignoreRulesOf(selection: Selection): Promise<ReadonlyMap<string, string>> {
  const paths = selection.leftOut.examples.filter(({ reason }) => reason === 'ignored').map(({ path }) => path);
  const rules = new Map<string, string>();
  if (paths.length === 0) return rules;
  // It knows no literal pathspecs; `./` keeps a name that begins with a colon a name.
  const input = Buffer.concat(paths.flatMap((path) => [Buffer.from('./'), encodePath(path), Buffer.of(0)]));
  const ask = ['--no-literal-pathspecs', 'check-ignore', '--verbose', '-z', '--stdin'];
  const answer = await askGit(selection.root, ask, { input });
  const fields = splitNames(answer.stdout);
  for (let at = 0; at + 3 < fields.length; at += 4) {
    const [source = '', line = '', pattern = '', path = ''] = fields.slice(at, at + 4);
    rules.set(path.replace(/^\.\//, ''), `${source}:${line} ${pattern}`);
  }
  return rules;
}

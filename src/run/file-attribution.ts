import { ContentPack } from '../context/content-pack.ts';
import { FileWatch, type Sight } from '../context/file-watch.ts';
import { boundMarks } from '../context/file-marks.ts';
import { workspacePath } from '../context/recorded-files.ts';
import type { EntryData, FileMark } from '../journal/entry.ts';
import type { RunningCall } from '../sandbox/call.ts';
import { pathsOf } from '../tools/paths.ts';
import { runTool } from '../tools/run-tool.ts';
import type { ToolCall } from '../tools/tool-call.ts';
import type { ToolContext } from '../tools/tool-context.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Change } from '../workspace/change-set.ts';
import { findInUpper, lookAtUpper } from '../workspace/layer/upper-look.ts';
import type { Scope } from '../workspace/scope/scope.ts';
import type { RunParts } from './run-parts.ts';

/** Tools that write by file verbs, which say what they write. */
const writing: ReadonlySet<ToolCall['tool']> = new Set(['write', 'edit', 'apply_patch', 'move', 'remove', 'upload']);

/** Which call wrote which file, put on record beside what the calls do. A run that only verifies has none of it. */
export class FileAttribution {
  readonly #watch: FileWatch | undefined;
  readonly #parts: RunParts;
  readonly #isExact: boolean;
  readonly #marks = new Map<string, FileMark[]>();

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#isExact = parts.policy.policy.context?.attribution === 'exact';
    if (parts.isVerify === true) return;
    const { sandbox, dir, journal } = parts;
    this.#watch = new FileWatch({
      files: sandbox.files,
      pack: new ContentPack(dir.contents),
      sight: sightOf(parts),
      record: (data) => journal.append({ type: 'files.seen', data }),
    });
    const { writers = new Map<string, number>(), running = [] } = parts.resumed ?? {};
    for (const [callId, begunMs] of writers) {
      const command = running.find(({ id }) => id === callId);
      if (command === undefined) this.#watch.beganBefore(callId, begunMs);
      else this.#begin(command.id, begunMs, Promise.resolve(command));
    }
  }

  /** Does a call, and remembers what it has written. */
  async perform(context: ToolContext, callId: string, call: ToolCall): Promise<ToolResult> {
    const watch = this.#watch;
    if (watch === undefined) return runTool(context, callId, call);
    if (call.tool === 'exec' && this.#isExact) await watch.look();
    if (!writing.has(call.tool)) return runTool(context, callId, call);
    if (watch.isWaiting) {
      const { reads, writes } = pathsOf(call);
      await watch.beforeWriting([...reads, ...writes].flatMap((path) => workspacePath(path) ?? []));
    }
    const marks: FileMark[] = [];
    this.#marks.set(callId, marks);
    return runTool(context.withFiles(watch.recorded(callId, marks)), callId, call);
  }

  /** For the entry that says how a call ended; once. */
  written(callId: string): Pick<EntryData<'call.ended'>, 'files' | 'moreFiles'> {
    const marks = this.#marks.get(callId) ?? [];
    this.#marks.delete(callId);
    return marks.length === 0 ? {} : boundMarks(marks);
  }

  /** Starts a command: it may have written before anybody hears that it runs, so whoever looks knows of it before that. */
  async starting(callId: string, start: () => Promise<RunningCall>): Promise<RunningCall> {
    const begunMs = Date.now();
    const started = start();
    this.#begin(callId, begunMs, started);
    return started;
  }

  #begin(callId: string, begunMs: number, started: Promise<Pick<RunningCall, 'ended' | 'gone'>>): void {
    const noted = started.catch(() => undefined); // what never ran has ended
    const ended = noted.then((command) => command?.ended);
    const gone = noted.then(async (command) => {
      if (command !== undefined && (await command.ended).descendantsAlive > 0) await command.gone;
    });
    this.#watch?.begin(callId, begunMs, { ended, gone });
  }

  /** With what the files have become since the run began. */
  async settle(changes: ReadonlyMap<string, Change>): Promise<void> {
    await this.#watch?.settle(changes, () => this.#parts.base.tree);
  }

  /** Before a snapshot is laid over the workspace. */
  async beforeRestore(): Promise<void> {
    await this.#watch?.look();
  }

  async restored(changes: ReadonlyMap<string, Change>): Promise<void> {
    await this.#watch?.restored(changes, () => this.#parts.base.tree);
  }

  async close(): Promise<void> {
    await this.#watch?.close();
  }
}

const lookMax = { entriesMax: 20_000, directoryBytesMax: 1024 * 1024, withinMs: 500 };

function sightOf({ placement, dir, base, scope }: RunParts): Sight {
  const { layered } = placement.looking(dir);
  if (layered === undefined) {
    const at = (path: string) => {
      const node = base.tree.get(path);
      return node?.kind === 'file' ? node.digest : undefined;
    };
    return { kind: 'base', at };
  }
  const { upper } = layered;
  const options = { ...lookMax, skips: skipsOf(scope) };
  return { kind: 'upper', all: () => lookAtUpper(upper, options), at: (path) => findInUpper(upper, path) };
}

/** What is never exported is nobody's work; the repository of the snapshot changes with each command of git. */
function skipsOf(scope: Scope): (path: string, kind: string) => boolean {
  return (path, kind) => {
    if (path === '.git' || path.endsWith('/.git')) return true;
    return kind === 'directory' ? scope.isScratchBelow(path) : scope.isScratch(path);
  };
}

import { realpath } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { messageOf, RunnerError } from '../../errors.ts';
import { askGit } from '../../workspace/base/host-git.ts';
import { HeldDirectory } from './held-directory.ts';

/**
 * A repository that something is promoted into. Git is never run in it: what its configuration says is read as a list of
 * words, and its hooks, filters, monitors and includes are never looked at.
 */
export interface Place {
  /** As it was named, with its links resolved. */
  readonly path: string;
  /** What its work trees share: objects and refs. */
  readonly common: HeldDirectory;
  readonly format: 'sha1' | 'sha256';
  readonly bare: boolean;
  close(): Promise<void>;
}

/** `target_refused` for what is no repository, or one whose refs this cannot write. */
export async function openPlace(named: string): Promise<Place> {
  const path = await realpath(resolve(named)).catch((cause: unknown) => {
    throw new RunnerError('target_refused', `${named} cannot be opened: ${messageOf(cause)}; name a git repository`, {
      cause,
    });
  });
  const common = await findCommon(path);
  try {
    const configured = await readConfig(common);
    const format = configured.get('extensions.objectformat') ?? 'sha1';
    if (format !== 'sha1' && format !== 'sha256')
      throw new RunnerError('target_refused', `${path} names its objects by ${format}, which is not known here`);
    if ((configured.get('extensions.refstorage') ?? 'files') !== 'files' || (await isThere(common, 'reftable')))
      throw new RunnerError(
        'target_refused',
        `${path} keeps its refs in a reftable, which is not written here; promote into a clone that keeps them as files, then fetch from it`,
      );
    return { path, common, format, bare: configured.get('core.bare') === 'true', close: () => common.close() };
  } catch (error) {
    await common.close();
    throw error;
  }
}

/** The top of a work tree, of a linked one too, or the repository itself. */
async function findCommon(path: string): Promise<HeldDirectory> {
  const top = await HeldDirectory.open(path);
  try {
    if ((await top.read('HEAD', headBytesMax)) !== undefined && (await isThere(top, 'objects')))
      return await HeldDirectory.open(path);
    const linked = await readLinked(top);
    if (linked !== undefined) return await ofLinked(path, linked);
    const inside = await top.find('.git');
    if (inside !== undefined) return inside;
    throw new RunnerError('target_refused', `${path} is no git repository, nor the top of a work tree; name one`);
  } finally {
    await top.close();
  }
}

/** What `.git` says where it is a file. */
async function readLinked(top: HeldDirectory): Promise<string | undefined> {
  try {
    const text = (await top.read('.git', headBytesMax))?.toString('utf8');
    return text === undefined ? undefined : /^gitdir: (.+)\n*$/.exec(text)?.[1];
  } catch (error) {
    const directory = await top.find('.git'); // it says better what is wrong with anything else
    if (directory === undefined) throw error;
    await directory.close();
    return undefined;
  }
}

/** Both have to name one another: a file alone could name the repository of somebody else. */
async function ofLinked(path: string, linked: string): Promise<HeldDirectory> {
  const gitDir = await HeldDirectory.open(await realpath(resolve(path, linked)).catch(() => resolve(path, linked)));
  try {
    const [back, common] = await Promise.all(
      ['gitdir', 'commondir'].map(async (name) => (await gitDir.read(name, headBytesMax))?.toString('utf8').trim()),
    );
    const named = back === undefined ? undefined : resolve(gitDir.path, back);
    const isOurs =
      named !== undefined && (await realpath(dirname(named)).catch(() => '')) === path && named.endsWith('/.git');
    if (!isOurs || common === undefined)
      throw new RunnerError(
        'target_refused',
        `${join(path, '.git')} names ${gitDir.path}, which does not name it; name the repository itself with --repo`,
      );
    return await HeldDirectory.open(await realpath(resolve(gitDir.path, common)));
  } finally {
    await gitDir.close();
  }
}

async function isThere(directory: HeldDirectory, name: string): Promise<boolean> {
  const found = await directory.find(name);
  await found?.close();
  return found !== undefined;
}

/** Of this one file: nothing that it includes. */
async function readConfig(common: HeldDirectory): Promise<ReadonlyMap<string, string>> {
  const text = await common.read('config', configBytesMax);
  const values = new Map<string, string>();
  if (text === undefined) return values;
  const answer = await askGit('/', ['config', '--file', '-', '--no-includes', '--null', '--list'], { input: text });
  if (answer.code !== 0)
    throw new RunnerError('target_refused', `${common.path}/config cannot be read: ${answer.stderr}; mend it`);
  for (const entry of answer.stdout.toString('utf8').split('\0')) {
    const [key = '', value = 'true'] = entry.split(/\n(.*)/s);
    values.set(key.toLowerCase(), value.toLowerCase());
  }
  return values;
}

const headBytesMax = 8192;
const configBytesMax = 1024 * 1024;

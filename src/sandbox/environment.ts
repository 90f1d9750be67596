import { RunnerError } from '../errors.ts';
import type { ExecSpec } from './spec.ts';

/** Where the tools' user works, and who that is (`images/supervisor` drops to it, `container-body.ts` makes its home). */
export const workspace = '/workspace';
export const home = '/home/agent';
export const toolUid = 10_001;
export const toolGid = 10_001;

/**
 * The whole environment of a command: nothing of the runner's or of the image's is in it.
 *
 * Output is for a program that reads it: no colour, no pager, no progress bar, nobody to ask. PYTHONUNBUFFERED because a
 * killed or background command would otherwise lose what Python kept back, and stdout and stderr would be merged out of
 * order. PYTHONHASHSEED and SOURCE_DATE_EPOCH because two runs of one command should print one thing.
 */
const quiet: Readonly<Record<string, string>> = {
  TERM: 'dumb',
  NO_COLOR: '1',
  CI: '1',
  PAGER: 'cat',
  GIT_PAGER: 'cat',
  MANPAGER: 'cat',
  SYSTEMD_PAGER: 'cat',
  PIP_PROGRESS_BAR: 'off',
  PIP_NO_INPUT: '1',
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  TQDM_DISABLE: '1',
  NPM_CONFIG_PROGRESS: 'false',
  NPM_CONFIG_UPDATE_NOTIFIER: 'false',
  DEBIAN_FRONTEND: 'noninteractive',
  GIT_EDITOR: 'true',
  EDITOR: 'true',
  VISUAL: 'true',
};

const always: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: home,
  USER: 'agent',
  LOGNAME: 'agent',
  SHELL: '/bin/sh',
  TMPDIR: '/tmp',
  LANG: 'C.UTF-8',
  LC_ALL: 'C.UTF-8',
  TZ: 'UTC',
  GIT_TERMINAL_PROMPT: '0',
  PYTHONUNBUFFERED: '1',
  PYTHONHASHSEED: '0',
  SOURCE_DATE_EPOCH: '315532800', // 1980-01-01, the earliest that zip files can hold
};

const terminal: Readonly<Record<string, string>> = { TERM: 'xterm-256color' };

/** `NAME=value`, sorted. The caller's values win over the default ones. */
export function callEnvironment(spec: Pick<ExecSpec, 'env' | 'tty'>): readonly string[] {
  const own = spec.env ?? {};
  for (const [name, value] of Object.entries(own)) {
    if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0'))
      throw new RunnerError(
        'invalid_request',
        `environment variable ${JSON.stringify(name)}: a name is not empty and has no "=", neither name nor value has NUL`,
      );
  }
  return merged(spec.tty === undefined ? withoutTerminal : withTerminal, own);
}

interface Variable {
  readonly name: string;
  readonly text: string;
}

function listed(variables: Readonly<Record<string, string>>): readonly Variable[] {
  return Object.entries(variables)
    .map(([name, value]) => ({ name, text: `${name}=${value}` }))
    .sort((a, b) => (a.text < b.text ? -1 : 1));
}

/** The default ones are sorted already, and those of a call are few. */
function merged(defaults: readonly Variable[], own: Readonly<Record<string, string>>): readonly string[] {
  const added = listed(own);
  const all: string[] = [];
  let at = 0;
  for (const { name, text } of defaults) {
    if (Object.hasOwn(own, name)) continue;
    for (let next = added[at]; next !== undefined && next.text < text; next = added[++at]) all.push(next.text);
    all.push(text);
  }
  for (const { text } of added.slice(at)) all.push(text);
  return all;
}

/** What most commands get: sorted once. */
const withoutTerminal = listed({ ...always, ...quiet });
const withTerminal = listed({ ...always, ...terminal });

import { decodePath } from '../bytes-path.ts';

/**
 * What a shell session carries from call to call, and how it gets out of the shell.
 *
 *  - The user's script is sourced as it is, any size, never quoted. It sees neither fd 3 nor fd 9.
 *  - The state is written to fd 3 by the wrapper when the script has ended, also by `exit`, `set -e` or a syntax error.
 *    A shell that was killed, has replaced itself (`exec`) or has its own EXIT trap and calls `exit` writes none:
 *    the previous state stays.
 *  - It comes back as the environment, working directory and umask of the next call. No shell ever parses it again.
 *  - Here it is data of an attacker: bounded, checked, and worth nothing outside of its own sandbox.
 */
export interface ShellState {
  readonly cwd: string;
  readonly umask: number;
  /** Exported variables that differ from the default environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Variables of the default environment that the session has unset. */
  readonly unset: readonly string[];
}

export const shellStateMaxBytes = 262_144;

const header = 'glovebox-shell-1';

/**
 * Runs as `SHELL -c wrapper NAME DIRECTORY SCRIPT`. While the script runs, the shell keeps fd 3 aside close-on-exec
 * (that is how every shell restores a redirection of a compound command), so that no child ever has it. The save reads
 * the environment from a child, because that is what "exported" means; `command -p` finds `cat` whatever PATH is.
 * The shell itself changes to the directory: one that was removed since must not keep a session from starting.
 */
const wrapper = `
__glovebox_save() {
  __glovebox_saved=1
  { printf '${header}\\000'; umask; printf '\\000'; pwd; printf '\\000'; command -p cat /proc/self/environ; printf '\\000end\\000'; } 2>/dev/null >&3
}
trap '{ __glovebox_status=$?; set +x; [ -n "\${__glovebox_saved-}" ] || __glovebox_save; } 2>/dev/null; exit $__glovebox_status' EXIT
if [ -n "$1" ]; then
  __glovebox_old=\${OLDPWD-}
  cd "$1" 2>/dev/null || printf 'session directory %s is gone; starting in %s\\n' "$1" "$PWD" >&2
  [ -z "$__glovebox_old" ] || OLDPWD=$__glovebox_old
fi
__glovebox_script=$2
shift 2
{ . "$__glovebox_script"; } 3>&-
{ __glovebox_status=$?; set +x; __glovebox_save; } 2>/dev/null
exit $__glovebox_status`;

/** The arguments that come before the script's path. `directory`: where to start, if not in the call's own cwd. */
export function sessionShell(
  shell: string,
  state: ShellState | undefined,
  directory: string | undefined,
): [string, ...string[]] {
  const unset = state === undefined || state.unset.length === 0 ? '' : `unset ${state.unset.join(' ')}`;
  return [shell, '-c', unset + wrapper, shell.slice(shell.lastIndexOf('/') + 1), directory ?? ''];
}

/** In front of a script's first line, so that line numbers stay: the script's own descriptor is not for its children. */
export const closeScript = 'exec 9<&-;';

export type ParsedShellState =
  | { readonly kind: 'state'; readonly state: ShellState }
  | { readonly kind: 'none'; readonly reason: string };

/**
 * Reads what the wrapper wrote. `defaults` is the environment without session and call; `callEnv` what this call alone
 * was given, which is carried only if the script changed it; `previous` what the call started from.
 */
export function parseShellState(
  aux: Buffer,
  from: {
    readonly defaults: ReadonlyMap<string, string>;
    readonly callEnv: Readonly<Record<string, string>>;
    readonly previous: ShellState | undefined;
  },
): ParsedShellState {
  if (aux.length === 0) return none('the shell was killed, replaced itself with exec, or has an EXIT trap of its own');
  if (aux.length > shellStateMaxBytes) {
    return none(`the state is larger than ${shellStateMaxBytes} bytes; unset large exported variables`);
  }
  const parts = splitNul(aux);
  if (parts.length < 5 || text(parts[0]) !== header || text(parts.at(-2)) !== 'end' || parts.at(-1)?.length !== 0) {
    return none('the shell wrote an incomplete state');
  }
  const umask = /^[0-7]{1,4}\n$/.exec(text(parts[1]));
  if (umask === null) return none('the shell wrote no umask');
  const cwd = text(parts[2]).replace(/\n$/, '');
  if (!cwd.startsWith('/') || cwd.length > 4096) return none('the working directory is gone');
  const exported = parseEnvironment(parts.slice(3, -2));
  if (exported.size === 0) return none('the shell could not list its environment');
  return { kind: 'state', state: { cwd, umask: Number.parseInt(umask[0], 8) & 0o777, ...carried(exported, from) } };
}

function none(reason: string): ParsedShellState {
  return { kind: 'none', reason };
}

function text(part: Buffer | undefined): string {
  return part === undefined ? '' : decodePath(part);
}

function splitNul(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  let from = 0;
  for (let at = bytes.indexOf(0); at !== -1; at = bytes.indexOf(0, from)) {
    parts.push(bytes.subarray(from, at));
    from = at + 1;
  }
  parts.push(bytes.subarray(from));
  return parts;
}

/** Set by the shell itself for each process, or ours. */
const transient = /^(_|SHLVL|PWD|BASH_FUNC___glovebox_.*|__glovebox_.*)$/;
const namePattern = /^([A-Za-z_][A-Za-z0-9_]*|BASH_FUNC_[^=]{1,200}%%)$/;

function parseEnvironment(parts: readonly Buffer[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of parts) {
    const at = part.indexOf(0x3d);
    if (at <= 0) continue;
    const name = text(part.subarray(0, at));
    if (namePattern.test(name) && !transient.test(name)) found.set(name, text(part.subarray(at + 1)));
  }
  return found;
}

function carried(
  exported: ReadonlyMap<string, string>,
  from: Parameters<typeof parseShellState>[1],
): Pick<ShellState, 'env' | 'unset'> {
  const env = new Map<string, string>();
  for (const [name, value] of exported) {
    const given = Object.hasOwn(from.callEnv, name) && from.callEnv[name] === value;
    const before = from.previous !== undefined && Object.hasOwn(from.previous.env, name);
    const carriedValue = given ? (before ? from.previous.env[name] : undefined) : value;
    if (carriedValue !== undefined && from.defaults.get(name) !== carriedValue) env.set(name, carriedValue);
  }
  const unset = [...from.defaults.keys()].filter((name) => !exported.has(name) && isUnsettable(name));
  return { env: Object.fromEntries(env), unset };
}

function isUnsettable(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !transient.test(name);
}

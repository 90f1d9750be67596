import { posix } from 'node:path';
import { Scope } from '../workspace/scope.ts';
import type { Policy } from './policy.ts';

/** What of a tool call matters here. Paths as the agent gave them: absolute, or relative to the workspace. */
export interface DecidableCall {
  readonly tool: string;
  readonly reads?: readonly string[];
  readonly writes?: readonly string[];
}

export type Decision =
  | { readonly kind: 'allow' }
  /** `rule` is the key of the policy that says no. */
  | { readonly kind: 'deny'; readonly rule: string; readonly reason: string; readonly hint: string };

/**
 * Whether a call may be made. Pure. What is refused here is told early and in words; the fence is elsewhere: denied files
 * are not in the sandbox, and what may not be written belongs to root, however a command spells its path.
 * Give the compiled scope of the policy where there is one: compiling takes most of a millisecond.
 */
export function decide(policy: Policy, call: DecidableCall, compiled?: Scope): Decision {
  if (!policy.tools.allow.includes(call.tool)) {
    const hint = `Allowed are: ${policy.tools.allow.join(', ')}.`;
    return {
      kind: 'deny',
      rule: 'tools.allow',
      reason: `the policy "${policy.name}" does not allow the tool ${call.tool}`,
      hint,
    };
  }
  const paths = [...(call.reads ?? []), ...(call.writes ?? [])];
  if (paths.length === 0) return { kind: 'allow' };
  const scope = compiled ?? Scope.compile(policy.files);
  for (const path of paths) {
    if (!scope.denies(inWorkspace(path) ?? '')) continue;
    const reason = `${shown(path)} is kept out of the sandbox by the policy "${policy.name}"`;
    return {
      kind: 'deny',
      rule: 'files.deny',
      reason,
      hint: 'Do without it; another way to the same file does not exist.',
    };
  }
  for (const path of call.writes ?? []) {
    if (isWritable(path, directoryTools.has(call.tool) ? 'directory' : 'file', scope)) continue;
    const reason = `${shown(path)} is outside what the policy "${policy.name}" lets you change`;
    const hint = `You may change: ${listed([...policy.files.write, ...policy.files.scratch])}; and anything under /tmp.`;
    return { kind: 'deny', rule: 'files.write', reason, hint };
  }
  return { kind: 'allow' };
}

/** Their path is a directory: what counts is whether something in it may be written. */
const directoryTools: ReadonlySet<string> = new Set(['mkdir', 'upload']);

/** Outside of the workspace (/tmp, the home directory, the system) the sandbox itself decides. */
function isWritable(path: string, kind: 'file' | 'directory', scope: Scope): boolean {
  const inside = inWorkspace(path);
  if (inside === undefined || inside === '') return true;
  return ['write', 'scratch'].includes(scope.classOf(inside, kind));
}

/** Relative to the workspace, as it is spelt; undefined when it is not in there. */
function inWorkspace(path: string): string | undefined {
  const absolute = posix.resolve('/workspace', path);
  if (absolute === '/workspace') return '';
  return absolute.startsWith('/workspace/') ? absolute.slice('/workspace/'.length) : undefined;
}

function shown(path: string): string {
  return JSON.stringify(path.length <= 200 ? path : `${path.slice(0, 200)}...`);
}

function listed(globs: readonly string[]): string {
  if (globs.length === 0) return 'nothing in the workspace';
  return globs.length <= 12 ? globs.join(', ') : `${globs.slice(0, 12).join(', ')}, ...`;
}

import { open, type FileHandle } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { PolicyFile } from './schema.ts';
import { issueLines } from './issue-lines.ts';
import { readYaml, textBytesMax } from './yaml-source.ts';

/** What a run may touch; fixed when it opens, named by its digest. */
export interface Policy {
  readonly apiVersion: 'glovebox/v1';
  readonly kind: 'Policy';
  readonly name: string;
  readonly description: string;
  readonly images: readonly string[];
  readonly runtime: 'runc' | 'runsc';
  readonly files: {
    readonly read: readonly string[];
    readonly write: readonly string[];
    readonly scratch: readonly string[];
    readonly deny: readonly string[];
    readonly includeIgnored: boolean;
    readonly git: boolean;
  };
  readonly inputs: readonly { readonly source: string; readonly target: string }[];
  readonly environment?: EnvironmentSpec;
  readonly limits: {
    readonly memoryBytes: number;
    readonly cpus: number;
    readonly pidsMax: number;
    readonly openFilesMax: number;
    readonly workspaceBytes: number;
    readonly workspaceFilesMax: number;
    readonly tmpBytes: number;
    readonly wallClockMs: number;
    readonly commandTimeoutMs: number;
    /** 0 = none. */
    readonly idleTimeoutMs: number;
    readonly outputPerCallBytes: number;
    readonly replyBytes: number;
    readonly outputPerRunBytes: number;
  };
  readonly budget: { readonly calls: number; readonly denied: number; readonly parallel: number };
  readonly tools: { readonly allow: readonly string[] };
  readonly env: { readonly set: Readonly<Record<string, string>> };
}

export interface EnvironmentSpec {
  readonly image: string;
  readonly setup: readonly (readonly string[])[];
  readonly files: readonly string[];
}

export interface LoadedPolicy {
  readonly policy: Policy;
  /** Of `canonical`: the same for two files that mean the same. */
  readonly digest: Digest;
  readonly canonical: string;
  /** Where it was read, for messages. */
  readonly source: string;
  readonly text: string;
}

/** A file, or the name of a shipped policy (`default`, `docs-only`, `locked-down`). Throws `invalid_policy`. */
export async function loadPolicy(pathOrName: string): Promise<LoadedPolicy> {
  const path = /^[a-z][a-z-]*$/.test(pathOrName) ? shippedPolicyPath(pathOrName) : pathOrName;
  return parsePolicy(await readText(path), pathOrName);
}

export function defaultPolicy(): Promise<LoadedPolicy> {
  return loadPolicy('default');
}

function shippedPolicyPath(name: string): string {
  return fileURLToPath(new URL(`../../sandbox-policies/${name}.yaml`, import.meta.url));
}

/** Throws `invalid_policy`: each line of its message names source, line, column, key, and what to write instead. */
export function parsePolicy(text: string, source: string): LoadedPolicy {
  const document = readYaml(text, source);
  const parsed = PolicyFile.safeParse(document.value, { reportInput: true });
  if (!parsed.success) throw new RunnerError('invalid_policy', issueLines(parsed.error.issues, document).join('\n'));
  const policy = policyOf(parsed.data);
  const canonical = canonicalJson(policy);
  return { policy, digest: digestOf(canonical), canonical, source, text };
}

function policyOf(file: PolicyFile): Policy {
  const { include_ignored: includeIgnored, ...files } = file.files;
  const { limits, environment, ...rest } = file;
  return {
    ...rest,
    ...(environment === undefined ? {} : { environment }),
    files: { ...files, includeIgnored },
    limits: {
      memoryBytes: limits.memory,
      cpus: limits.cpus,
      pidsMax: limits.pids,
      openFilesMax: limits.open_files,
      workspaceBytes: limits.workspace,
      workspaceFilesMax: limits.workspace_files,
      tmpBytes: limits.tmp,
      wallClockMs: limits.wall_clock,
      commandTimeoutMs: limits.command_timeout,
      idleTimeoutMs: limits.idle_timeout,
      outputPerCallBytes: limits.output_per_call,
      replyBytes: limits.reply_bytes,
      outputPerRunBytes: limits.output_per_run,
    },
  };
}

async function readText(path: string): Promise<string> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    const buffer = Buffer.alloc(textBytesMax + 1); // one more than is accepted, so that a longer one is seen
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (cause) {
    const message = `cannot read the policy ${path}: ${messageOf(cause)}; shipped ones are default, docs-only, locked-down`;
    throw new RunnerError('invalid_policy', message, { cause });
  } finally {
    await file?.close();
  }
}

import type { CliContext } from './cli/context.ts';
import type { EmbeddedService } from './client/embedded-transport.ts';
import { loadConfig } from './config.ts';
import { DataDir } from './data-dir/data-dir.ts';
import { Network } from './egress/outside/network.ts';
import type { Engine } from './engine/engine.ts';
import { Runner, type Reach, type RunnerOptions } from './runner.ts';

export type { ApprovalRequest, Approver, Verdict } from './approvals/approval.ts';
export { RunnerError, type ErrorCode } from './errors.ts';
export { loadPolicyFor } from './policy/layers/repository-layer.ts';
export { defaultPolicy, loadPolicy, parsePolicy, type LoadedPolicy } from './policy/policy.ts';
export { Run, Runner, type CloseReason, type OpenRequest } from './runner.ts';
export type { Candidate } from './workspace/changes/candidate.ts';
export { ToolCall, type ToolCallInput } from './tools/tool-call.ts';
export { ToolResult } from './tools/tool-result.ts';

/** Wiring, and the only file that names a real engine. `command-line.ts` takes `wiring`, programs call `openRunner`. */
export async function openRunner(options: { dataDir?: string } & RunnerOptions = {}): Promise<Runner> {
  const [engine, dataDir, reached] = await Promise.all([connect(), DataDir.open(options.dataDir), reach()]);
  return Runner.create(engine, dataDir, { ...reached, fingerprints: true, ...options });
}

/** A service within this process, for `GloveboxClient.embedded`. Throws `data_dir_in_use` where another process serves it. */
export async function openEmbedded(options: { readonly dataDir?: string } = {}): Promise<EmbeddedService> {
  const [engine, dataDir, reached] = await Promise.all([connect(), DataDir.open(options.dataDir), reach()]);
  const { embed } = await import('./api/embed.ts');
  const { openService } = await import('./service/open-service.ts');
  const { signing } = await loadConfig();
  return embed(await openService({ engine, dataDir, runner: { ...reached }, signing }));
}

/** What the commands of the CLI are given. */
export function wiring(): CliContext {
  return { connect, openDataDir: () => DataDir.open(), reach };
}

/** Loaded when it is needed: what only reads the data directory starts sooner. */
async function connect(): Promise<Engine> {
  const { DockerEngine } = await import('./engine/docker/docker-engine.ts');
  return DockerEngine.connect();
}

/** Throws `invalid_config` for a file that is there and says what cannot be. */
async function reach(): Promise<Reach> {
  const { egress, credentials } = await loadConfig();
  return {
    network: await Network.open(egress),
    credentialCommands: credentials.commands,
    sentPolicies: egress.sentPolicies,
  };
}

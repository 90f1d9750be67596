import type { RunDir } from '../data-dir/data-dir.ts';
import type { Engine } from '../engine/engine.ts';
import type { Placement } from '../placement.ts';
import type { SandboxSpec } from '../sandbox/container-body.ts';
import { Sandbox } from '../sandbox/sandbox.ts';
import type { SandboxOptions } from '../sandbox/sandbox-options.ts';

/** The container and its workspace, side by side. When it fails nothing of either is still in the making; `discard` removes it. */
export async function makeSandbox(
  engine: Engine,
  { spec, placement, dir, options, onBegun }: SandboxMaking,
): Promise<Sandbox> {
  const { laid } = await placement.prepare(dir, spec.labels);
  const opening = Sandbox.open(engine, spec, { ...options, directory: dir.callsDir, ready: laid });
  onBegun?.();
  const [opened] = await Promise.allSettled([opening, laid]);
  if (opened.status === 'rejected') throw opened.reason;
  return opened.value;
}

interface SandboxMaking {
  readonly spec: SandboxSpec;
  readonly placement: Placement;
  /** Gets its ledger and its layer. */
  readonly dir: RunDir;
  readonly options: Omit<SandboxOptions, 'directory' | 'ready'>;
  /** Once the engine has been asked. */
  readonly onBegun?: () => void;
}

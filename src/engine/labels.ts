import type { Labels } from './engine.ts';

/**
 * Labels are the only truth for clean-up: whatever we create carries them, and nothing without them is ever touched.
 * An image's own labels are inherited by its containers, so images must never use these keys (`glovebox.image.*` is theirs).
 */
export const labelKeys = {
  /** Id of the data directory that the container belongs to. */
  owner: 'glovebox.owner',
  /** Id of the runner process that made it. */
  instance: 'glovebox.instance',
  sandbox: 'glovebox.sandbox',
  /** When, by the runner's clock, as ISO 8601. */
  created: 'glovebox.created',
  /** Digest of the files in a volume made by `ensureFiles`. */
  files: 'glovebox.files',
  /** On the volume of a workspace: the sandbox. */
  workspace: 'glovebox.workspace',
  /** On the volume of an input: the sandbox. */
  inputs: 'glovebox.inputs',
  /** On the container that fills such a volume; it is never started. */
  filler: 'glovebox.filler',
} as const;

/** The labels of a sandbox's container, complete. They say nothing of a run: a sandbox may be made before anybody wants one. */
export function sandboxLabels(of: {
  readonly owner: string;
  readonly instance: string;
  readonly sandbox: string;
  readonly created: Date;
}): Labels {
  return {
    [labelKeys.owner]: of.owner,
    [labelKeys.instance]: of.instance,
    [labelKeys.sandbox]: of.sandbox,
    [labelKeys.created]: of.created.toISOString(),
  };
}

export function carries(labels: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}

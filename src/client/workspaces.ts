import type { WorkspaceView } from '../contract/workspace-view.ts';
import type { Requests } from './requests.ts';

const uploadMs = 180_000;

/** What runs of a service elsewhere start from: sent once, opened by its id (`uploaded`), gone a day after the last use. */
export class Workspaces {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** A plain tar of the files, without `.git`. What was sent only in part is asked for once, and never again by itself. */
  upload(tar: Uint8Array | AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<WorkspaceView> {
    const headers = { 'content-type': 'application/x-tar' };
    return this.#requests.json({
      method: 'POST',
      path: '/v1/workspaces',
      headers,
      body: tar,
      silenceMs: uploadMs,
      signal,
    });
  }

  /** Those of the team, oldest first. */
  async list(signal?: AbortSignal): Promise<readonly WorkspaceView[]> {
    type Listed = { readonly workspaces: readonly WorkspaceView[] };
    const ask = { method: 'GET', path: '/v1/workspaces', repeatable: true, signal } as const;
    return (await this.#requests.json<Listed>(ask)).workspaces;
  }

  /** Runs that were opened from it go on. */
  async remove(id: string): Promise<void> {
    await this.#requests.bytes({ method: 'DELETE', path: `/v1/workspaces/${encodeURIComponent(id)}` });
  }
}

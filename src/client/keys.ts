import type { KeyDraft, KeyList, KeyView, NewKey } from '../contract/key-view.ts';
import { jsonBody, type Requests } from './requests.ts';

/** Of the own team, with the scope `admin`; who owns the socket, or a service in this process, has those of all teams. */
export class Keys {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /**
   * The secret is in this answer and nowhere else: where the answer is lost, so is the key, and `list` has what to revoke.
   * Refused with `forbidden` for what the key in use may not give.
   */
  create(key: KeyDraft, signal?: AbortSignal): Promise<NewKey> {
    return this.#requests.json({ method: 'POST', path: '/v1/keys', ...jsonBody(key), signal });
  }

  /** Oldest first; those that are over too. */
  async list(signal?: AbortSignal): Promise<readonly KeyView[]> {
    const ask = { method: 'GET', path: '/v1/keys', repeatable: true, signal } as const;
    return (await this.#requests.json<KeyList>(ask)).keys;
  }

  /** From now on it is none. Twice is fine; `not_found` for another team's. */
  revoke(id: string, signal?: AbortSignal): Promise<KeyView> {
    const path = `/v1/keys/${encodeURIComponent(id)}`;
    return this.#requests.json({ method: 'DELETE', path, repeatable: true, signal });
  }
}

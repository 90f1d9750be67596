/** JSON-RPC's own codes, and one of ours for a flood. */
export const rpcCodes = {
  parse: -32700,
  invalid: -32600,
  noMethod: -32601,
  badParams: -32602,
  internal: -32603,
  busy: -32000,
} as const;

export type RpcId = string | number;

/** Requests that are being answered, by id: an id is used once at a time, and there is a most of them. */
export class InFlight {
  readonly #max: number;
  readonly #ids = new Set<RpcId>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Why it is not taken; undefined when it is. */
  admit(id: RpcId): { readonly code: number; readonly message: string } | undefined {
    if (this.#ids.has(id)) return { code: rpcCodes.invalid, message: `the id ${JSON.stringify(id)} is in use` };
    if (this.#ids.size >= this.#max) {
      const message = `${this.#max} requests are being answered; wait for one of them, then try again`;
      return { code: rpcCodes.busy, message };
    }
    this.#ids.add(id);
    return undefined;
  }

  done(id: RpcId): void {
    this.#ids.delete(id);
  }
}

/** Which tool calls run: what a connection from inside is attributed to. */
export class RunningCalls {
  readonly #running = new Set<string>();

  /** From before it starts until nothing of it is left. */
  async during<T extends { readonly gone: Promise<unknown> }>(callId: string, start: () => Promise<T>): Promise<T> {
    this.#running.add(callId);
    try {
      const call = await start();
      void call.gone.finally(() => this.#running.delete(callId));
      return call;
    } catch (error) {
      this.#running.delete(callId);
      throw error;
    }
  }

  /**
   * The call as whose a client of the proxy presents itself, by the user in the proxy's URL; else the one that runs alone. Nothing
   * is decided by it: calls of a sandbox could speak for each other in other ways too.
   */
  presented(proxyAuthorization: string | undefined): string | undefined {
    const [, encoded = ''] = /^basic +([a-z0-9+/=]{1,200})$/i.exec(proxyAuthorization ?? '') ?? [];
    const [user = ''] = Buffer.from(encoded, 'base64').toString('latin1').split(':', 1);
    return this.#running.has(user) ? user : this.sole;
  }

  /** All of a sandbox's processes look alike from here: a connection is certain to be a call's only while it runs alone. */
  get sole(): string | undefined {
    const [first, second] = this.#running;
    return second === undefined ? first : undefined;
  }

  get all(): readonly string[] {
    return [...this.#running];
  }
}

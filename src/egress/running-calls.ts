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

  /** All of a sandbox's processes look alike from here: a connection is certain to be a call's only while it runs alone. */
  get sole(): string | undefined {
    const [first, second] = this.#running;
    return second === undefined ? first : undefined;
  }

  get all(): readonly string[] {
    return [...this.#running];
  }
}

/** Which tool calls run: what a connection from inside is attributed to. */
export class RunningCalls {
  readonly #running = new Set<string>();

  began(callId: string): void {
    this.#running.add(callId);
  }

  ended(callId: string): void {
    this.#running.delete(callId);
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

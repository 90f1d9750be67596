import type { Readable, Writable } from 'node:stream';
import { newId } from '../../ids.ts';
import type { DelegatedRun } from '../../run/delegated-run.ts';
import { LineChannel } from '../../stdio/line-channel.ts';
import { CodexConnection } from './connection.ts';
import { Paths } from './paths.ts';
import { CodexSession } from './session.ts';

/** A file of 32 MiB as base64, and what stands around it. */
const lineBytesMax = 48 * 1024 * 1024;
const sessionsMax = 16;

/** One run as a remote environment for Codex, for connections one after another or at a time. */
export class CodexEnvironment {
  readonly #run: () => Promise<DelegatedRun>;
  readonly #paths: Paths;
  readonly #sessions = new Map<string, CodexSession>();

  /** `roots` are the spellings of the workspace's directory on the client's machine. */
  constructor(run: () => Promise<DelegatedRun>, roots: readonly string[]) {
    this.#run = run;
    this.#paths = new Paths(roots);
  }

  /** Serves one client on two streams until it has gone. */
  async serve(input: Readable, output: Writable): Promise<void> {
    const channel = new LineChannel(input, output, lineBytesMax);
    await new CodexConnection(channel, (resumed) => this.#sessionFor(resumed)).serve();
  }

  #sessionFor(resumed: string | undefined): CodexSession | undefined {
    if (resumed !== undefined) return this.#sessions.get(resumed);
    const session = new CodexSession(newId(), this.#run, this.#paths);
    this.#sessions.set(session.id, session);
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size > sessionsMax && oldest !== undefined) this.#sessions.delete(oldest);
    return session;
  }
}

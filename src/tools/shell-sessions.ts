import { callEnvironment } from '../sandbox/environment.ts';
import type { ExecSpec } from '../sandbox/spec.ts';
import { closeScript, parseShellState, sessionShell, type ShellState } from './shell-state.ts';
import type { StartedCall } from './started-call.ts';

const sessionsMax = 256;

/** Where sessions stand, for whoever goes on after this process. */
export interface SessionKeeper {
  save(name: string, state: ShellState): Promise<void>;
  drop(name: string): Promise<void>;
}

/** The named shell sessions of one sandbox. Two calls of a session at once both start from the same state; the later end wins. */
export class ShellSessions {
  readonly #states = new Map<string, ShellState>();
  readonly #captures = new WeakMap<StartedCall, Promise<SessionCapture>>();
  readonly #running = new Set<{ readonly name: string; dropped: boolean }>();

  readonly #keeper: SessionKeeper | undefined;

  constructor(keeper?: SessionKeeper) {
    this.#keeper = keeper;
  }

  get(name: string): ShellState | undefined {
    return this.#states.get(name);
  }

  /** Past 256 sessions the one that was used longest ago is forgotten. */
  set(name: string, state: ShellState): void {
    this.#states.delete(name);
    this.#states.set(name, state);
    const [oldest] = this.#states.keys();
    if (this.#states.size > sessionsMax && oldest !== undefined) this.#states.delete(oldest);
  }

  /** The next call of this name starts afresh, and what still runs in it leaves nothing behind. */
  async reset(name: string): Promise<void> {
    this.#states.delete(name);
    for (const capture of this.#running) if (capture.name === name) capture.dropped = true;
    await this.#keeper?.drop(name);
  }

  /** The spec of a script that starts where the session stands. */
  prepare(name: string, shell: string, script: string, spec: Omit<ExecSpec, 'command'>): ExecSpec {
    const state = this.get(name);
    const directory = spec.cwd === undefined ? state?.cwd : undefined;
    return {
      ...spec,
      command: { kind: 'script', script: closeScript + script, shell: sessionShell(shell, state, directory) },
      aux: true,
      env: { ...state?.env, ...spec.env },
      ...(state === undefined ? {} : { umask: state.umask }),
    };
  }

  /** Takes the state over as soon as the call has ended, whether or not anybody waits for it. */
  capture(
    name: string,
    call: StartedCall,
    from: { readonly tty?: ExecSpec['tty']; readonly env: Readonly<Record<string, string>> },
  ): void {
    const previous = this.get(name);
    const defaults = environmentMap(callEnvironment(from.tty === undefined ? {} : { tty: from.tty }));
    const running = { name, dropped: false };
    this.#running.add(running);
    const captured = call.ended.then(async (): Promise<SessionCapture> => {
      this.#running.delete(running);
      if (running.dropped) return { name, saved: false, reason: 'the session was reset while the command ran' };
      const parsed = parseShellState(call.output.aux(), { defaults, callEnv: from.env, previous });
      if (parsed.kind === 'none') return { name, saved: false, reason: parsed.reason };
      this.set(name, parsed.state);
      await this.#keeper?.save(name, parsed.state).catch(() => undefined); // it holds here; the next runner has the one before
      return { name, saved: true, reason: null };
    });
    this.#captures.set(call, captured);
  }

  /** What became of the state at the end of this call; undefined if it belongs to no session. */
  async captured(call: StartedCall): Promise<SessionCapture | undefined> {
    return await this.#captures.get(call);
  }
}

export interface SessionCapture {
  readonly name: string;
  readonly saved: boolean;
  readonly reason: string | null;
}

function environmentMap(list: readonly string[]): Map<string, string> {
  return new Map(list.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

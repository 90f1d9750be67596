import { isRunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { LoadedPolicy } from '../../policy/policy.ts';
import { LocalRun, offerOf, type DelegatedRun, type Offer } from '../../run/delegated-run.ts';
import type { Run } from '../../runner.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { inRun, type RunOptions } from './open-run.ts';
import { say } from '../terminal.ts';

/** A run that is there later than those who ask for it. */
export class LateRun {
  readonly wanted: Promise<true>;
  readonly #run: Promise<DelegatedRun>;
  #want: () => void = () => undefined;
  readonly #offer: Promise<Offer>;
  /** Tells what will be offered; the run itself says it too. */
  announce: (offer: Offer) => void = () => undefined;
  open: (run: DelegatedRun) => void = () => undefined;
  fail: (error: unknown) => void = () => undefined;

  constructor() {
    this.wanted = new Promise((resolve) => {
      this.#want = () => resolve(true);
    });
    this.#run = new Promise((resolve, reject) => {
      this.open = resolve;
      this.fail = reject;
    });
    const announced = new Promise<Offer>((resolve) => {
      this.announce = resolve;
    });
    this.#offer = Promise.race([announced, this.#run]);
    this.#offer.catch(() => undefined);
  }

  readonly offered = (): Promise<Offer> => {
    this.#want();
    return this.#offer;
  };

  readonly opened = (): Promise<DelegatedRun> => {
    this.#want();
    return this.#run;
  };
}

/** Opens the run for a client that is served already, and closes it when that one has gone. */
export async function serveRun(
  context: CliContext,
  options: RunOptions,
  door: LateRun,
  served: Promise<void>,
): Promise<Run> {
  try {
    const onPolicy = (policy: LoadedPolicy): void => door.announce(offerOf(policy));
    const { run } = await inRun(context, { ...options, onPolicy }, async (opened) => {
      if (options.quiet !== true) say(`glovebox: run ${opened.id} is open; it closes when this client goes`);
      door.open(new LocalRun(opened));
      await served;
    });
    return run;
  } catch (error) {
    door.fail(error);
    if (!isRunnerError(error)) {
      process.stdin.destroy(); // interrupted, or broken: nobody is served any more
      throw error;
    }
    // Whatever the client asks for is answered with what is wrong, which it can show; a server that is gone says nothing.
    say(`glovebox: ${printable(error.message)} [${error.code}]`);
    await served;
    throw new Exit(exitCodes.runner);
  }
}

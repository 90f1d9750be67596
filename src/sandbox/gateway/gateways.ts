import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import { Gateway, type GatewayEvents } from './gateway.ts';
import type { HandHost } from '../hand.ts';

const endMs = 10_000;

/** The gateway of one sandbox: one at a time, and the next one only once the ports of the one before are free. */
export class Gateways {
  readonly #host: HandHost;
  #current: Gateway | undefined;
  #opening = false;

  constructor(host: HandHost) {
    this.#host = host;
  }

  /** The number of the call that must not share its group with another one. */
  get number(): number | undefined {
    return this.#current?.number;
  }

  /** `leftovers`: what a runner or a stream before has left running, as far as that is known by then. */
  async open(events: GatewayEvents, leftovers: () => Promise<unknown>): Promise<Gateway> {
    if (this.#opening || this.#current?.open === true)
      throw new RunnerError('invalid_request', 'this sandbox has a gateway; close it before opening another');
    this.#opening = true;
    try {
      await this.#host.link();
      const before = Promise.all([this.#current?.gone, leftovers()]);
      await Deadline.run(endMs, 'end the gateway before', () => before, 'sandbox_lost');
      this.#current = await Gateway.open(await this.#host.link(), this.#host.takeNumber(), events);
      return this.#current;
    } finally {
      this.#opening = false;
    }
  }
}

import type { Pass } from '../checkpoint/checkpoint.ts';
import { EgressFailure } from '../failure.ts';
import type { Dialler, HttpLimits } from './http-deps.ts';
import { authorityOf, type Place } from './http-target.ts';
import { UpstreamLane } from './upstream-lane.ts';

/**
 * The connections to upstreams of one connection from inside. One is used again only for the same scheme, host, port and rule,
 * and only after the pass of the new request has agreed to its address; none is shared with another connection from inside.
 */
export class UpstreamLanes {
  readonly #network: Dialler;
  readonly #limits: HttpLimits;
  readonly #idle: UpstreamLane[] = [];
  readonly #busy = new Set<UpstreamLane>();
  #closed = false;

  constructor(network: Dialler, limits: HttpLimits) {
    this.#network = network;
    this.#limits = limits;
  }

  /** A kept one, unless `fresh`; else dials. Throws `EgressFailure`. `signal`: gives up. Give it back with `give` or `drop`. */
  async take(place: Place, pass: Pass, signal: AbortSignal, fresh = false): Promise<UpstreamLane> {
    const key = `${place.scheme}://${place.host}:${place.port} ${pass.rule?.id ?? ''}`;
    const lane = (fresh ? undefined : this.#kept(key, pass)) ?? (await this.#dial(key, place, pass, signal));
    if (this.#closed) {
      lane.destroy();
      throw new EgressFailure('cut', 'the client went away');
    }
    this.#busy.add(lane);
    return lane;
  }

  give(lane: UpstreamLane): void {
    this.#busy.delete(lane);
    if (!lane.usable || this.#closed) return lane.destroy();
    this.#idle.push(lane);
    if (this.#idle.length > idleMax) this.#idle.shift()?.destroy();
  }

  drop(lane: UpstreamLane): void {
    this.#busy.delete(lane);
    lane.destroy();
  }

  close(): void {
    this.#closed = true;
    for (const lane of [...this.#idle.splice(0), ...this.#busy]) lane.destroy();
  }

  #kept(key: string, pass: Pass): UpstreamLane | undefined {
    for (let at = this.#idle.length - 1; at >= 0; at--) {
      const lane = this.#idle[at];
      if (lane === undefined || (lane.usable && lane.key !== key)) continue;
      this.#idle.splice(at, 1);
      if (lane.usable && (lane.address === null || pass.check(lane.address).kind === 'allowed')) return lane;
      lane.destroy();
    }
    return undefined;
  }

  async #dial(key: string, place: Place, pass: Pass, signal: AbortSignal): Promise<UpstreamLane> {
    const { host, port } = place;
    const { socket, address } = await this.#network.dial({
      host,
      port,
      check: (found) => pass.check(found),
      timeoutMs: this.#limits.dialMs,
      signal,
    });
    // Lost before anybody listens: whoever uses it next is told.
    socket.on('error', () => undefined);
    const timeoutMs = this.#limits.dialMs;
    const secured =
      place.scheme === 'https' ? await this.#network.secure(socket, host, ['http/1.1'], { timeoutMs, signal }) : socket;
    secured.on('error', () => undefined);
    return new UpstreamLane(key, `${place.scheme}://${authorityOf(place)}`, secured, address, this.#limits.headBytes);
  }
}

const idleMax = 8;

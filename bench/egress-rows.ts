import type { Bench } from './bed.ts';
import { lessIsBetter, median, moreIsBetter, type Row } from './measure.ts';

const rounds = 5;
const requests = 400;
/** Until what carries them is compiled, as in a runner that has been at it for a while. */
const before = 1_000;
const bytes = 100e6;

/** One keep-alive request of plain HTTP, decided and on record: what that adds to the same client on the host. */
export async function egressLatency({ egress }: Bench): Promise<readonly Row[]> {
  const place = await egress.get();
  const { httpPort, proxy } = place;
  const target = `http://127.0.0.1:${httpPort}/`;
  const added = { ours: [] as number[], peer: [] as number[] };
  await place.inside(`http://plain.test:${httpPort}/`, 'latency', before);
  for (let n = 0; n < rounds; n++) {
    const direct = await place.outside(target, 'latency', requests);
    added.ours.push((await place.inside(`http://plain.test:${httpPort}/`, 'latency', requests)) - direct);
    if (proxy !== undefined) added.peer.push((await place.outside(target, 'latency', requests, proxy)) - direct);
  }
  return [lessIsBetter('egress-latency', 'ms', medians(added), 'squid, client on the host', { bound: 1 })];
}

/** A long answer over TLS that is passed through. */
export async function egressThroughput({ egress }: Bench): Promise<readonly Row[]> {
  const place = await egress.get();
  const { httpsPort, proxy } = place;
  const rates = { ours: [] as number[], peer: [] as number[] };
  for (let n = 0; n < rounds; n++) {
    rates.ours.push(await place.inside(`https://passed.test:${httpsPort}/bytes`, 'rate', bytes));
    if (proxy !== undefined)
      rates.peer.push(await place.outside(`https://127.0.0.1:${httpsPort}/bytes`, 'rate', bytes, proxy));
  }
  return [
    moreIsBetter('egress-throughput', 'MB/s', medians(rates), 'squid CONNECT, client on the host', { bound: 100 }),
  ];
}

/** One keep-alive request over TLS that the runner looks into, beside one that it passes through. */
export async function egressTerminated({ egress }: Bench): Promise<readonly Row[]> {
  const place = await egress.get();
  const { httpsPort } = place;
  const times = { ours: [] as number[], peer: [] as number[] };
  await place.inside(`https://looked.test:${httpsPort}/`, 'latency', before);
  await place.inside(`https://passed.test:${httpsPort}/`, 'latency', before);
  for (let n = 0; n < rounds; n++) {
    times.ours.push(await place.inside(`https://looked.test:${httpsPort}/`, 'latency', requests));
    times.peer.push(await place.inside(`https://passed.test:${httpsPort}/`, 'latency', requests));
  }
  return [lessIsBetter('egress-tls-terminated', 'ms', medians(times), 'passed through', { ratio: 0.5 })];
}

function medians({ ours, peer }: { readonly ours: readonly number[]; readonly peer: readonly number[] }): {
  readonly ours: number;
  readonly peer: number | null;
} {
  return { ours: median(ours), peer: peer.length === 0 ? null : median(peer) };
}

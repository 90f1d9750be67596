import { lessIsBetter, inTurn, median, moreIsBetter, timed, type Row } from './measure.ts';
import type { Bench } from './bed.ts';
import { ServiceBed } from './service-bed.ts';

/** A call from another process: policy decided, journaled, answered, kept. */
export async function echoHttp({ peer }: Bench): Promise<readonly Row[]> {
  const service = await ServiceBed.make();
  try {
    const [echo = never] = await service.run(1);
    for (let n = 0; n < 2000; n++) await echo(); // until it is compiled, as a service is that has worked for a minute
    const measured = await inTurn(400, echo, { rounds: 40, work: () => peer.exec(['echo', 'hi']) });
    return [lessIsBetter('echo-http', 'ms', measured, 'dockerode exec', { bound: 2, ratio: 10 })];
  } finally {
    await service.close();
  }
}

export const callsHttp8 = (bench: Bench): Promise<readonly Row[]> => calls(bench, 'calls-http-8', 2, 4);
export const callsHttp64 = (bench: Bench): Promise<readonly Row[]> => calls(bench, 'calls-http-64', 8, 8);

/** So many runs with so many callers each. */
async function calls({ peer }: Bench, name: string, runs: number, callers: number): Promise<readonly Row[]> {
  const service = await ServiceBed.make();
  try {
    const all = (await Promise.all(Array.from({ length: runs }, () => service.run(callers)))).flat();
    await perSecond(all, 20);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < 3; round++) {
      ours.push(await perSecond(all, 40));
      theirs.push(
        await perSecond(
          all.slice(0, 8).map(() => () => peer.exec(['echo', 'hi'])),
          4,
        ),
      );
    }
    const measured = { ours: median(ours), peer: median(theirs) };
    return [moreIsBetter(name, 'calls/s', measured, 'dockerode exec, 8 at once', {})];
  } finally {
    await service.close();
  }
}

const never = (): Promise<never> => Promise.reject(new Error('a run without a caller'));

async function perSecond(workers: readonly (() => Promise<unknown>)[], each: number): Promise<number> {
  const ms = await timed(() =>
    Promise.all(
      workers.map(async (work) => {
        for (let n = 0; n < each; n++) await work();
      }),
    ),
  );
  return (workers.length * each * 1000) / ms;
}

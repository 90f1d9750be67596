/**
 * Named places where a test may kill, stop or fail the runner: `GLOVEBOX_FAILPOINT=open.started:kill`.
 * Nothing happens without that variable. `test/recovery.test.ts` goes through every name and fails on one that is never
 * reached.
 */
export const failpoints = [
  'open.directory',
  'open.begun',
  'open.journaled',
  'open.created',
  'open.attached',
  'open.started',
  'open.welcomed',
  'open.unpacked',
  'open.recorded',
  'call.intended',
  'call.dispatched',
  'call.ended',
  'call.recorded',
  'call.answered',
  'close.collected',
  'close.journaled',
  'close.destroyed',
] as const;

/** Where there is a pool, besides (`test/pool.test.ts`). */
export const poolFailpoints = ['pool.made', 'pool.taken', 'pool.moved'] as const;

export type Failpoint = (typeof failpoints | typeof poolFailpoints)[number];

export async function failpoint(name: Failpoint): Promise<void> {
  const wanted = process.env['GLOVEBOX_FAILPOINT'];
  if (wanted === undefined) return;
  const [place, action] = wanted.split(':');
  if (place !== name) return;
  process.stderr.write(`failpoint ${name}: ${action ?? 'kill'}\n`);
  switch (action) {
    case 'throw':
      throw new Error(`failpoint ${name}`);
    case 'hang':
      return new Promise(() => {
        setInterval(() => undefined, 60_000); // keeps the process, as a stuck runner would
      });
    default:
      process.kill(process.pid, 'SIGKILL');
      return new Promise(() => undefined);
  }
}

/**
 * Named places where a test may kill, stop or fail the runner: `GLOVEBOX_FAILPOINT=open.started:kill`, or `:kill:3` for the third
 * time that it is reached. Nothing happens without that variable. `test/recovery.test.ts` goes through every name and fails on one that is never
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
  'call.kept',
  'call.recorded',
  'call.answered',
  'close.collected',
  'close.journaled',
  'close.destroyed',
] as const;

/** Where there is a pool, besides (`test/pool.test.ts`). */
export const poolFailpoints = ['pool.made', 'pool.taken', 'pool.moved'] as const;

/** Of a run that is resumed; `test/resume.test.ts` goes through these. */
export const resumeFailpoints = [
  'resume.taken',
  'resume.adopted',
  'resume.sealed',
  'resume.recorded',
  'resume.settled',
] as const;

/** Of the import of a directory that was imported before (`src/workspace/base/crashes.test.ts`). */
export const importFailpoints = ['import.read', 'import.written', 'import.published', 'import.noted'] as const;

/** Of a bundle that is written (`src/bundle/crashes.test.ts`). */
export const exportFailpoints = [
  'export.keyed',
  'export.described',
  'export.begun',
  'export.written',
  'export.synced',
  'export.published',
] as const;
/** Of a promotion and its rollback, which go the same way (`src/promotion/crashes.test.ts`). */
export const promotionFailpoints = [
  'promote.intended',
  'promote.composed',
  'promote.installed',
  'promote.locked',
  'promote.swapped',
  'promote.recorded',
] as const;

/** Of a context snapshot that is attached (`src/run/contexts.test.ts`). */
export const contextFailpoints = ['context.kept', 'context.handed_over', 'context.recorded'] as const;

type Named =
  | typeof failpoints
  | typeof poolFailpoints
  | typeof resumeFailpoints
  | typeof importFailpoints
  | typeof exportFailpoints
  | typeof promotionFailpoints
  | typeof contextFailpoints;
export type Failpoint = Named[number];

export async function failpoint(name: Failpoint): Promise<void> {
  const wanted = process.env['GLOVEBOX_FAILPOINT'];
  if (wanted === undefined) return;
  const [place, action, nth = '1'] = wanted.split(':');
  if (place !== name) return;
  if (Number(nth) > 1) {
    process.env['GLOVEBOX_FAILPOINT'] = `${place}:${action}:${Number(nth) - 1}`;
    return;
  }
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

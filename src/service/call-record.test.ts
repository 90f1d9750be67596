import { expect, test } from 'vitest';
import type { RunRow } from '../store/runs.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { RunnerError } from '../errors.ts';
import { CallRecord } from './call-record.ts';
import { EventLog } from './event-log.ts';
import { OpenRun } from './open-run.ts';
import type { Principal } from './principal.ts';
import type { OpenedRun } from './run-views.ts';

const ann = { identity: 'ann', team: 'red' } as Principal;
const call = { tool: 'write', path: 'a', content: { utf8: '' } } as const;
const done: ToolResult = { callId: 'c', tool: 'write', ok: true, text: '', data: { kind: 'done' }, error: null };

function refused(code: 'waiting_for_approval' | 'denied'): ToolResult {
  return { ...done, ok: false, data: null, error: { code, message: '', path: null } };
}

/** A run whose calls are told to wait for people, until `decide`. */
function waitingRun(): {
  entry: OpenRun;
  events: () => string[];
  record: CallRecord;
  decide: (result: ToolResult | Error) => void;
} {
  let decide: (result: ToolResult | Error) => void = () => undefined;
  const last = new Promise<ToolResult>((resolve, reject) => {
    decide = (result) => (result instanceof Error ? reject(result) : resolve(result));
  });
  last.catch(() => undefined);
  const run = {
    id: 'r',
    dir: {},
    call: async () => refused('waiting_for_approval'),
    making: () => last,
    findCommand: () => undefined,
  };
  const log = new EventLog();
  const told: string[] = [];
  log.listen((event) => told.push('outcome' in event ? `${event.type} ${event.outcome}` : event.type));
  const entry = new OpenRun(run as unknown as OpenedRun, { team: 'red' } as RunRow);
  return { entry, events: () => told, record: new CallRecord(log, () => 1), decide };
}

test.each([
  ['approved', done, 'done'],
  ['denied', refused('denied'), 'denied'],
  ['never made', new Error('the run is closed'), 'failed'],
])(
  'a call that is %s after its client was told to wait has one end, whether or not it is asked for again',
  async (_, last, outcome) => {
    const { entry, events, record, decide } = waitingRun();
    await record.make(entry, ann, 'c', call);
    await record.make(entry, ann, 'c', call);
    expect(events()).toEqual(['call.started']);
    decide(last);
    await expect.poll(events).toEqual(['call.started', `call.ended ${outcome}`]);
  },
);

test('another request under the id of a call is refused, and nothing is told of the call for it', async () => {
  const { entry, events, record, decide } = waitingRun();
  await record.make(entry, ann, 'c', call);
  const reused = new RunnerError('call_id_reused', 'call id c was used before');
  Object.assign(entry.run, { call: () => Promise.reject(reused) });
  for (let times = 0; times < 2; times++) await expect(record.make(entry, ann, 'c', call)).rejects.toBe(reused);
  expect(events()).toEqual(['call.started']);
  decide(done);
  await expect.poll(events).toEqual(['call.started', 'call.ended done']);
});

test('nobody who stops the service waits for people to decide', async () => {
  const { entry, record } = waitingRun();
  await record.make(entry, ann, 'c', call);
  const startMs = performance.now();
  await record.quiet(30_000, 'ended');
  expect(performance.now() - startMs).toBeLessThan(1_000);
});

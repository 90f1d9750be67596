import { describe, expect, test } from 'vitest';
import { Checkpoint, type Ask, type CheckpointParts } from './checkpoint.ts';
import type { EgressFailure } from '../failure.ts';
import { judgeOf, KeptRecord, ruleWith } from './judge.fixture.ts';
import type { Pass } from './pass.ts';

const rules = [
  ruleWith({ id: 'api', maxSentBytes: 100, maxReceivedBytes: 1000, maxRequests: 3 }),
  ruleWith({ id: 'raw', host: ['raw.test'], tls: 'pass_through', timeoutMs: 60_000 }),
  ruleWith({ id: 'many', host: ['**.many.test'], tls: 'pass_through' }),
];
const upstream = { id: 'db', host: 'db.test', port: 5432, to: { kind: 'unix', path: '/run/db' } } as const;
const limits = { maxRecords: 1000, maxNames: 3, maxUnlisted: 3, onExcess: 'deny' } as const;

function checkpointWith(parts: Partial<CheckpointParts> = {}): { checkpoint: Checkpoint; record: KeptRecord } {
  const record = new KeptRecord();
  const checkpoint = new Checkpoint({ rules: judgeOf(rules, [upstream]), record, mode: 'enforce', limits, ...parts });
  return { checkpoint, record };
}

function ask(host: string, port = 443, callId: string | undefined = 'c1'): Ask {
  return { host, port, callId, via: 'name' };
}

function get(checkpoint: Checkpoint, url = 'https://allowed.test/a?token=x', method = 'GET'): Promise<Pass> {
  const asked = new URL(url);
  return checkpoint.request(ask(asked.hostname), { method, url: asked, websocket: false });
}

async function failureOf(work: Promise<unknown>): Promise<EgressFailure> {
  return work.then(
    () => expect.fail('it was let through'),
    (error: EgressFailure) => error,
  );
}

test('so many may be under way at once, and no more until one has ended', async () => {
  const { checkpoint } = checkpointWith({ limits: { ...limits, maxRecords: 10_000 } });
  const open = async (): Promise<Pass> => checkpoint.connection(ask('raw.test'));
  const passes: Pass[] = [];
  for (let at = 0; at < 512; at++) passes.push(await open());
  expect(await failureOf(open())).toMatchObject({ kind: 'denied', rule: 'egress.max_connections' });
  await passes[0]?.end({ kind: 'done' });
  await expect(open()).resolves.toBeDefined();
});

describe('a decision', () => {
  test('is on record before its pass is given, without the query', async () => {
    const { checkpoint, record } = checkpointWith();
    record.hold();
    let given = false;
    const passing = get(checkpoint).then((pass) => {
      given = true;
      return pass;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(given).toBe(false);
    record.release?.();
    const pass = await passing;
    expect(record.decisions).toEqual([
      {
        id: 1,
        kind: 'request',
        via: 'name',
        callId: 'c1',
        host: 'allowed.test',
        port: 443,
        scheme: 'https',
        method: 'GET',
        path: '/a',
        rule: 'api',
        decision: 'allowed',
      },
    ]);
    pass.sent(10);
    pass.received(20);
    await pass.end({ kind: 'done', address: '192.0.2.1', status: 200 });
    await pass.end({ kind: 'cut' });
    expect(record.ends).toEqual([
      {
        id: 1,
        result: 'done',
        address: '192.0.2.1',
        status: 200,
        sentBytes: 10,
        receivedBytes: 20,
        ms: expect.any(Number),
      },
    ]);
  });

  test('that cannot be recorded lets nothing through, nothing after it, and ends what is under way', async () => {
    const { checkpoint, record } = checkpointWith();
    const under = await checkpoint.connection(ask('raw.test'));
    record.failing = true;
    expect(await failureOf(get(checkpoint))).toMatchObject({
      kind: 'denied',
      reason: expect.stringContaining('disk is full'),
    });
    expect(under.signal.aborted).toBe(true);
    record.failing = false;
    expect(await failureOf(get(checkpoint))).toMatchObject({ kind: 'denied' });
    await expect(checkpoint.name('allowed.test', undefined)).rejects.toThrow(/recorded/);
  });

  test('of rules that break is a denial', async () => {
    const broken = {
      ...judgeOf(rules),
      decide: () => {
        throw new Error('no such glob');
      },
    };
    const { checkpoint, record } = checkpointWith({ rules: broken });
    expect(await failureOf(get(checkpoint))).toMatchObject({ kind: 'denied', rule: 'gate.egress' });
    expect(record.decisions).toMatchObject([{ decision: 'denied', rule: 'gate.egress' }]);
  });

  test('of a request to another host than its connection is a denial', async () => {
    const { checkpoint } = checkpointWith();
    const request = { method: 'GET', url: new URL('https://allowed.test/'), websocket: false };
    expect(await failureOf(checkpoint.request(ask('raw.test'), request))).toMatchObject({ kind: 'denied' });
    expect(await failureOf(checkpoint.request(ask('allowed.test', 8443), request))).toMatchObject({ kind: 'denied' });
  });

  test('of what is looked into is never taken for the whole connection', async () => {
    const { checkpoint } = checkpointWith();
    expect(checkpoint.route(ask('allowed.test'))).toEqual({ kind: 'terminate' });
    await expect(checkpoint.connection(ask('allowed.test'))).rejects.toMatchObject({ kind: 'denied' });
  });
});

describe('what passed', () => {
  test.each([
    ['sends too much', (pass: Pass) => pass.sent(101), /more than 100 bytes/],
    ['gets too much', (pass: Pass) => pass.received(1001), /more than 1000 bytes/],
  ])('and %s is cut', async (_, move, message) => {
    const { checkpoint, record } = checkpointWith();
    const pass = await get(checkpoint);
    expect(() => move(pass)).toThrow(message);
    expect(pass.signal.aborted).toBe(true);
    await pass.end({ kind: 'done' });
    expect(record.ends).toMatchObject([{ id: 1, result: 'cut', reason: expect.stringMatching(message) }]);
    expect(checkpoint.deniedOf('c1')).toMatchObject([{ host: 'allowed.test', rule: 'api' }]);
  });

  test('and takes too long is ended as timed out', async () => {
    const { checkpoint, record } = checkpointWith({ rules: judgeOf([ruleWith({ timeoutMs: 20 })]) });
    const pass = await get(checkpoint);
    await new Promise((resolve) => pass.signal.addEventListener('abort', resolve));
    expect(pass.signal.reason).toMatchObject({ kind: 'timed_out' });
    expect(() => pass.sent(1)).toThrow(/longer than 20 ms/);
    await pass.end({ kind: 'done' });
    expect(record.ends).toMatchObject([{ result: 'timed_out' }]);
  });

  test('is cut when the rules no longer allow it, and goes on when they do', async () => {
    const { checkpoint } = checkpointWith();
    const [api, raw] = [await get(checkpoint), await checkpoint.connection(ask('raw.test'))];
    checkpoint.narrow(judgeOf([rules[1] ?? ruleWith()]));
    expect([api.signal.aborted, raw.signal.aborted]).toEqual([true, false]);
    await expect(get(checkpoint)).rejects.toMatchObject({ kind: 'denied' });
  });

  test('is cut when an address that it was let to is refused from now on', async () => {
    const { checkpoint } = checkpointWith({
      rules: { ...judgeOf(rules), address: () => ({ kind: 'allowed', named: false }) },
    });
    const raw = await checkpoint.connection(ask('raw.test'));
    expect(raw.check('10.0.0.1')).toMatchObject({ kind: 'allowed' });
    checkpoint.narrow(judgeOf(rules));
    expect(raw.signal.aborted).toBe(true);
  });

  test('is cut and told when the checkpoint closes, and so is what was being decided', async () => {
    const { checkpoint, record } = checkpointWith();
    const raw = await checkpoint.connection(ask('raw.test'));
    record.hold();
    const late = failureOf(get(checkpoint));
    const closing = checkpoint.close('the run is closing');
    record.release?.();
    await closing;
    expect(record.ends).toHaveLength(2);
    expect(raw.signal.reason).toMatchObject({ kind: 'cut', reason: 'the run is closing' });
    expect(await late).toMatchObject({ kind: 'cut' });
    expect(record.ends.map(({ id, result }) => [id, result])).toEqual([
      [1, 'cut'],
      [2, 'cut'],
    ]);
    expect(() => raw.sent(1)).toThrow(/closing/);
  });

  test('goes to upstreams without a rule, but never to an address on the list', async () => {
    const { checkpoint } = checkpointWith();
    const pass = await checkpoint.connection(ask('db.test', 5432));
    expect(pass).toMatchObject({ rule: undefined, upstream });
    expect(pass.check('192.168.0.1').kind).toBe('allowed');
    expect(pass.check('10.0.0.1').kind).toBe('denied');
  });
});

describe('budgets', () => {
  test('a rule lets so many requests through in a run', async () => {
    const { checkpoint } = checkpointWith();
    for (let n = 0; n < 3; n++) await (await get(checkpoint)).end({ kind: 'done' });
    expect(await failureOf(get(checkpoint))).toMatchObject({ kind: 'denied', rule: 'api' });
  });

  test('names under a suffix are counted however they are asked for', async () => {
    const { checkpoint } = checkpointWith();
    expect(await checkpoint.name('a.many.test', undefined)).toEqual({ kind: 'listed', ports: [443] });
    await checkpoint.connection(ask('b.many.test'));
    expect(await checkpoint.name('c.many.test', undefined)).toMatchObject({ kind: 'listed' });
    expect(await checkpoint.name('d.many.test', undefined)).toMatchObject({ kind: 'refused' });
    await expect(checkpoint.connection(ask('e.many.test'))).rejects.toMatchObject({ rule: 'egress.dns' });
    await checkpoint.connection(ask('a.many.test'));
  });

  test('may stop the run, once', async () => {
    const told: string[] = [];
    const { checkpoint } = checkpointWith({
      limits: { ...limits, onExcess: 'stop_run' },
      onStop: (why) => told.push(why),
    });
    for (let n = 0; n < 6; n++) await checkpoint.name(`n${n}.nowhere.test`, undefined);
    expect(told).toEqual([expect.stringContaining('more than 3 distinct names')]);
  });

  test('a run has so many records; then everything is denied, and that is told', async () => {
    const { checkpoint, record } = checkpointWith({ limits: { ...limits, maxRecords: 2 } });
    await checkpoint.connection(ask('raw.test'));
    await checkpoint.connection(ask('raw.test'));
    expect((await failureOf(checkpoint.connection(ask('raw.test')))).reason).toMatch(/all 2 decisions/);
    await expect(checkpoint.connection(ask('raw.test'))).rejects.toMatchObject({ kind: 'denied' });
    await checkpoint.close('the run is closing');
    expect(record.decisions.map((entry) => entry.decision)).toEqual(['allowed', 'allowed', 'denied']);
    expect(record.counts).toMatchObject([{ host: 'raw.test', count: 1 }]);
  });

  test('a flood of refusals is counted instead of written', async () => {
    const { checkpoint, record } = checkpointWith();
    for (let n = 0; n < 500; n++) await failureOf(get(checkpoint, 'https://denied.test/'));
    for (let n = 0; n < 500; n++) await checkpoint.name(`n${n}.nowhere.test`, undefined);
    await checkpoint.close('the run is closing');
    expect(record.decisions).toHaveLength(32 + 3);
    expect(record.counts.reduce((sum, { count }) => sum + count, 0)).toBe(1000 - 35);
  });
});

test('whoever is refused more than an honest client would be waits for it, until the run closes', async () => {
  const { checkpoint } = checkpointWith();
  const startMs = performance.now();
  for (let n = 0; n < 600; n++) await failureOf(get(checkpoint, 'https://denied.test/'));
  expect(performance.now() - startMs).toBeGreaterThan(150);
  let refused = 0;
  const waiting = Array.from({ length: 2_000 }, () =>
    failureOf(get(checkpoint, 'https://denied.test/')).then(() => (refused += 1)),
  );
  await checkpoint.close('the run is closing');
  await Promise.all(waiting);
  expect(refused).toBe(2_000);
  expect(performance.now() - startMs).toBeLessThan(4_000);
});

describe('observe', () => {
  test('lets through what no rule lists, and says so', async () => {
    const { checkpoint, record } = checkpointWith({ mode: 'observe' });
    expect(await checkpoint.name('else.test', undefined)).toEqual({ kind: 'listed', ports: [80, 443] });
    expect(checkpoint.route(ask('else.test'))).toEqual({ kind: 'pass_through' });
    expect(checkpoint.route(ask('else.test', 80))).toEqual({ kind: 'plain' });
    const pass = await checkpoint.connection(ask('else.test'));
    expect(pass.rule).toBeUndefined();
    expect(record.decisions.map((entry) => entry.decision)).toEqual(['observed', 'observed']);
  });

  test('does not let through what is on a list of denials', async () => {
    const { checkpoint } = checkpointWith({ mode: 'observe' });
    expect(checkpoint.route(ask('denied.test'))).toEqual({ kind: 'refused' });
    await expect(checkpoint.connection(ask('denied.test'))).rejects.toMatchObject({ rule: 'never' });
    const pass = await checkpoint.connection(ask('else.test'));
    expect(pass.check('10.0.0.1').kind).toBe('denied');
  });

  test('lets a spent budget pass as well', async () => {
    const { checkpoint, record } = checkpointWith({ mode: 'observe' });
    for (let n = 0; n < 4; n++) await (await get(checkpoint)).end({ kind: 'done' });
    expect(record.decisions.map(({ decision }) => decision)).toEqual(['allowed', 'allowed', 'allowed', 'observed']);
  });
});

describe('what a call is told', () => {
  test('is what it was refused, with what would allow it, each thing once', async () => {
    const { checkpoint } = checkpointWith();
    for (let n = 0; n < 3; n++) await failureOf(get(checkpoint, 'https://else.test/x?secret=1'));
    await checkpoint.name('else.test', 'c2');
    expect(checkpoint.deniedOf('c1')).toEqual([
      {
        host: 'else.test',
        port: 443,
        method: 'GET',
        path: '/x',
        rule: 'egress.profiles',
        reason: 'no profile names else.test',
        hint: 'add a rule for else.test',
        count: 3,
        certain: true,
      },
    ]);
    expect(checkpoint.deniedOf('c2')).toMatchObject([{ host: 'else.test', port: null, method: null }]);
  });

  test('says where another call may be meant', async () => {
    const { checkpoint } = checkpointWith({ runningCalls: () => ['c1', 'c2'] });
    await failureOf(checkpoint.connection({ ...ask('else.test'), callId: undefined }));
    expect(checkpoint.deniedOf('c1')).toMatchObject([{ certain: false }]);
    expect(checkpoint.deniedOf('c2')).toMatchObject([{ certain: false }]);
  });

  test('is printable whatever was asked for', async () => {
    const { checkpoint, record } = checkpointWith();
    await failureOf(checkpoint.connection(ask('a\u001b[2J\u202e.test'.repeat(40))));
    const shown = [record.decisions[0]?.host ?? '', checkpoint.deniedOf('c1')[0]?.host ?? ''];
    for (const host of shown) expect(host).toMatch(/^[\x20-\x7e]{255}$/);
  });
});

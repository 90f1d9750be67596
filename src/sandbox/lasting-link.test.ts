import { expect, test } from 'vitest';
import type { ContainerState } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { streams, type FakePid1 } from './fake-pid1.fixture.ts';
import { open } from './join.ts';
import { LastingLink } from './lasting-link.ts';
import type { Link } from './link.ts';
import { toSupervisor } from './wire.ts';

const container: ContainerState = {
  id: 'c1',
  name: 'c1',
  labels: {},
  status: 'running',
  exitCode: undefined,
  outOfMemory: false,
  startedAt: 'now',
};

interface Bed {
  readonly link: LastingLink;
  readonly first: FakePid1;
  readonly second: FakePid1;
  readonly joined: Link[];
  readonly givenUp: RunnerError[];
}

/** A link whose stream can be joined once more; `state` is how the engine finds its container then. */
async function bed(state: () => ContainerState | undefined): Promise<Bed> {
  const [one, two] = [streams(), streams()];
  const [joined, givenUp]: [Link[], RunnerError[]] = [[], []];
  const link = new LastingLink((await open(one.stream, { orphanMs: 1000, timeoutMs: 1000 })).link, {
    engine: { attach: () => Promise.resolve(two.stream), inspect: () => Promise.resolve(state()) },
    containerId: container.id,
    startedAt: container.startedAt,
    options: {},
    settle: () => Promise.resolve(),
    goOn: (again) => joined.push(again),
    giveUp: (reason) => givenUp.push(reason),
  });
  return { link, first: one.attached, second: two.attached, joined, givenUp };
}

test('a stream that breaks while PID 1 lives is joined again, and whoever asks meanwhile is given the new link', async () => {
  const { link, first, second, joined, givenUp } = await bed(() => container);
  first.emit('end');
  const current = await link.current();
  expect([joined, givenUp]).toEqual([[current], []]);
  expect([current.end, second.destroyed]).toEqual([undefined, false]);
  link.destroy(new RunnerError('run_not_open', 'the test is over'));
  expect(second.destroyed).toBe(true);
});

test.each([
  ['is gone', undefined],
  ['was restarted by somebody', { ...container, startedAt: 'later' }],
])('a stream whose container %s is given up', async (_, state) => {
  const { link, first, joined, givenUp } = await bed(() => state);
  first.emit('end');
  await link.current();
  expect(joined).toEqual([]);
  expect(givenUp).toMatchObject([{ code: 'sandbox_lost' }]);
});

test.each(['left', 'shut down'] as const)('a stream that is joined as the sandbox is %s is dropped', async (how) => {
  const made: Bed = await bed(() => {
    if (how === 'left') made.link.leave();
    else made.link.shutdown();
    return container;
  });
  made.first.emit('end');
  await made.link.current();
  expect([made.joined, made.givenUp, made.second.destroyed]).toEqual([[], [], true]);
  expect(made.second.heard.includes(toSupervisor.shutdown)).toBe(how === 'shut down');
});

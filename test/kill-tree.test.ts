import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Runtime } from '../src/engine/engine.ts';
import { newId } from '../src/ids.ts';
import type { RunningCall } from '../src/sandbox/call.ts';
import type { CallEnd } from '../src/sandbox/spec.ts';
import { Boxes, type Box } from './fixtures/box.ts';
import { escapes, escapeSpec, hauntPath, rampages, type Escape } from './fixtures/escapes.ts';
import { compile } from './security/fixtures/host.ts';

/**
 * A call's end takes its whole process tree, however its processes try to stay; a sibling call in the same sandbox goes on,
 * and not a byte of its output is missing. All ways of one list run side by side in one sandbox.
 */
const facts = await (await DockerEngine.connect()).describe();
const graceMs = 300;
const slackMs = 1_000;
/** Time enough for all of a list to start on a slow machine: one that has not said "ready" by then fails. */
const killAfterMs = { many: 4_000, one: 1_200 } as const;
/** Under gVisor every fork costs milliseconds: the ways that differ in what the kernel does for them. */
const gvisorWays = [
  'in the background',
  'in a session of its own',
  'after a triple fork with a session',
  'with every signal blocked and ignored',
  'stopped with SIGSTOP',
  'under a name like a line of its status',
  'with every descriptor closed',
  'with daemon(3)',
  'as a chain of parents that end at once',
  'as a thread whose first thread has ended',
  'below a zombie',
  'from a program that was deleted',
  'as a background job of the terminal',
  'after trying to shed its groups',
  'after trying to make namespaces',
];

let boxes: Boxes;
let haunt: Buffer;

beforeAll(async () => {
  boxes = await Boxes.make();
  haunt = await compile('../../fixtures/haunt.c');
});

afterAll(async () => {
  await boxes.close();
});

type Ending = 'killAfterMs' | 'kill' | 'leader';

describe.each([
  ['killAfterMs passes, with a grace', 'killAfterMs'],
  ['it is killed without one', 'kill'],
  ['its leader ends and the rest is reaped', 'leader'],
] as const)('when %s', (_name, ending) => describeWays(escapes, ending, 'runc'));

describe.each(rampages)('a process that lives on $name', (escape) => {
  describe.each(['killAfterMs', 'kill', 'leader'] as const)('does not outlive %s', (ending) => {
    describeWays([escape], ending, 'runc');
  });
});

if (facts.enforces.gvisor) {
  describe.each(['kill', 'leader'] as const)('under gVisor, at %s', (ending) => {
    describeWays(
      escapes.filter(({ name }) => gvisorWays.includes(name)),
      ending,
      'runsc',
    );
  });
} else {
  test('under gVisor', (context) => context.skip('runsc is not a runtime of this engine, or holds no limits'));
}

/** Runs all of them at once, then looks at what is left. */
function describeWays(ways: readonly Escape[], ending: Ending, runtime: Runtime): void {
  const clockMs = ways.length > 1 ? killAfterMs.many : killAfterMs.one;
  let box: Box;
  let sibling: RunningCall;
  let siblingBefore: number;
  let ghosts: Map<string, Ghost>;
  let left: readonly Process[];
  let marksOnce: ReadonlyMap<string, number>;
  let marksLater: ReadonlyMap<string, number>;

  beforeAll(async () => {
    box = await haunted(runtime);
    sibling = await box.sandbox.start(newId(), {
      command: { kind: 'script', script: siblingScript },
      stdin: { kind: 'open' },
    });
    ghosts = new Map(
      await Promise.all(
        ways.map(async (way, n) => [way.name, await startGhost(box, way, n, ending, clockMs)] as const),
      ),
    );
    const all = [...ghosts.values()];
    await Promise.all(all.map(({ call }) => readiness(call)));
    siblingBefore = sibling.output.size();
    if (ending === 'kill') for (const ghost of all) ghost.kill();
    await Promise.all(all.map(({ call }) => call.gone));
    left = await census(box);
    marksOnce = await markSizes(box);
    await sleep(200);
    marksLater = await markSizes(box);
  });

  afterAll(async () => {
    await box?.close();
  });

  test.each(ways)('nothing stays $name', async ({ name }) => {
    const ghost = ghosts.get(name);
    if (ghost === undefined) throw new Error(`${name} was not started`);
    const { call, mark } = ghost;
    const end = await call.ended;
    const text = (await call.output.read(0, 2 ** 20)).bytes.toString().replaceAll('\r', '');
    expect(text).toMatch(/^before\n[^]*ready\n/);
    expect(marksOnce.get(mark), 'it has lived').toBeGreaterThan(0);
    expect(left.filter(({ groups }) => groups.includes(20_000 + (call.number % 40_000)))).toEqual([]);
    expect(marksLater.get(mark), 'its file does not grow any more').toBe(marksOnce.get(mark));
    expectEnd(ending, clockMs, end);
    if (ending === 'leader') {
      expect(end.descendantsAlive).toBeGreaterThan(0);
      expect(end.killed).toBeGreaterThan(0);
    }
    expect(ghost.lateMs()).toBeLessThan(slackMs);
  });

  test('nothing is left at all but the sibling, whose output is whole', async () => {
    expect(left.filter(({ groups }) => !groups.includes(20_000 + (sibling.number % 40_000)))).toEqual([]);
    expect(sibling.result).toBeUndefined();
    await sibling.closeStdin();
    expect((await sibling.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    const lines = (await sibling.output.read(0, 2 ** 20)).bytes.toString().split('\n');
    expect(sibling.output.size()).toBeGreaterThan(siblingBefore);
    expect(lines.slice(0, -2)).toEqual(lines.slice(0, -2).map((_, n) => `line ${n}`));
    expect(lines.slice(-2)).toEqual(['end', '']);
  });
}

describe('descendants that are kept', () => {
  const ways = escapes.filter(({ name }) => !name.includes('supervisor'));

  test('are told of, listed, still there, killed when asked, and gone when the sandbox closes', async () => {
    const box = await haunted('runc');
    const calls = await Promise.all(
      ways.map(async (way, n) => {
        const spec = { ...escapeSpec(way, markOf(n), 'leave'), descendants: 'keep' } as const;
        return box.sandbox.start(newId(), spec);
      }),
    );
    const ends = await Promise.all(calls.map((call) => call.ended));
    for (const [n, end] of ends.entries()) {
      expect([ways[n]?.name, end.outcome, end.killed]).toEqual([ways[n]?.name, { kind: 'exited', code: 0 }, 0]);
      expect(end.descendantsAlive, ways[n]?.name).toBeGreaterThan(0);
    }
    const listed = new Map((await box.sandbox.list()).map((entry) => [entry.id, entry]));
    for (const [n, call] of calls.entries()) {
      expect([ways[n]?.name, listed.get(call.id)?.state]).toEqual([ways[n]?.name, 'leader_exited']);
      expect(listed.get(call.id)?.processes, ways[n]?.name).toBeGreaterThan(0);
    }
    const before = await markSizes(box);
    await sleep(300);
    const after = await markSizes(box);
    const alive = [...after].filter(([mark, size]) => size > (before.get(mark) ?? 0)).length;
    expect(alive).toBeGreaterThan(ways.length - 5); // the stopped ones mark nothing
    const [asked] = calls;
    if (asked === undefined) throw new Error('no call');
    asked.kill({ graceMs: 0 });
    await asked.gone;
    const groups = new Set((await census(box)).flatMap((process) => process.groups));
    expect([groups.has(20_000 + asked.number), groups.has(20_001 + asked.number)]).toEqual([false, true]);
    expect(hostProcesses(box.sandbox.containerId).length).toBeGreaterThan(ways.length);
    await box.close();
    expect(hostProcesses(box.sandbox.containerId)).toEqual([]);
    expect(await boxes.engine.inspect(box.sandbox.containerId)).toBeUndefined();
  });
});

interface Ghost {
  readonly call: RunningCall;
  readonly mark: string;
  kill(): void;
  /** How long after its time the end came. */
  lateMs(): number;
}

async function haunted(runtime: Runtime): Promise<Box> {
  const box = await boxes.open({ runtime, limits: { pidsMax: 1024 } });
  await box.sandbox.files.write(hauntPath, haunt, { mode: 0o755 });
  return box;
}

async function startGhost(box: Box, way: Escape, n: number, ending: Ending, clockMs: number): Promise<Ghost> {
  const mark = markOf(n);
  const spec = escapeSpec(way, mark, ending === 'leader' ? 'leave' : 'stay');
  const call = await box.sandbox.start(newId(), {
    ...spec,
    graceMs,
    ...(ending === 'killAfterMs' ? { killAfterMs: clockMs } : {}),
  });
  let dueMs = performance.now() + clockMs + graceMs;
  let endMs = 0;
  void call.ended.then(() => {
    endMs = performance.now();
  });
  return {
    call,
    mark,
    kill: () => {
      dueMs = performance.now();
      call.kill({ graceMs: 0 });
    },
    lateMs: () => endMs - dueMs,
  };
}

function markOf(n: number): string {
  return `/tmp/mark-${n}`;
}

async function readiness(call: RunningCall): Promise<void> {
  while (!(await call.output.read(0, 2 ** 16)).bytes.includes('ready')) {
    if (call.output.finished) throw new Error(`it never got so far: ${JSON.stringify(call.result)}`);
    await call.output.waitBeyond(call.output.size(), 200);
  }
}

function expectEnd(ending: Ending, clockMs: number, end: CallEnd): void {
  switch (ending) {
    case 'killAfterMs':
      return expect(end.outcome).toEqual({ kind: 'timed_out', afterMs: clockMs });
    case 'kill':
      return expect(end.outcome).toEqual({ kind: 'cancelled' });
    case 'leader':
      return expect(end.outcome).toEqual({ kind: 'exited', code: 0 });
  }
}

/** Forks nothing, so that a fork bomb beside it is none of its business; ends when its input does. */
const siblingScript = `exec python3 -uc '
import select, sys
n = 0
while not select.select([0], [], [], 0.01)[0]:
    print("line", n)
    n += 1
print("end")'`;

interface Process {
  readonly pid: number;
  readonly name: string;
  readonly groups: readonly number[];
}

/** All that lives in the sandbox but PID 1 and the one who looks: seen from a call of its own. */
async function census(box: Box): Promise<readonly Process[]> {
  const text = await box.output(['python3', '-c', censusScript]);
  return JSON.parse(text) as readonly Process[];
}

const censusScript = `
import json, os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: lines = open(f"/proc/{pid}/status", errors="replace").read().split("\\n")
    except OSError: continue
    fields = [line.split(":", 1) for line in lines if ":" in line]
    last = {key: value.split() for key, value in fields}
    ended = last["State"][0] in "ZX" and last.get("Threads", ["1"])[0] == "1"
    if not ended and int(pid) not in (1, os.getpid()):
        groups = [int(g) for key, value in fields if key == "Groups" for g in value.split()]
        found.append({"pid": int(pid), "name": lines[0], "groups": groups})
print(json.dumps(found))`;

async function markSizes(box: Box): Promise<ReadonlyMap<string, number>> {
  const text = await box.output(['python3', '-c', sizesScript]);
  return new Map(Object.entries(JSON.parse(text) as Record<string, number>));
}

const sizesScript = `
import glob, json, os
print(json.dumps({path: os.stat(path).st_size for path in glob.glob("/tmp/mark-*")}))`;

/** Processes of a container, as the host sees them. */
function hostProcesses(containerId: string): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(containerId);
    } catch {
      return false; // it has just ended
    }
  });
}

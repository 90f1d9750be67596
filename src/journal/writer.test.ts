import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkJournal } from './check.ts';
import { textMax, type Draft, type Entry } from './entry.ts';
import { followEntries, readEntries } from './read.ts';
import {
  attached,
  closed,
  denied,
  ended,
  intended,
  linesOf,
  lost,
  opened,
  run,
  started,
  storyOf,
  textOf,
  decided,
  egressEnded,
} from './story.fixture.ts';
import { compiled } from '../program.fixture.ts';
import { Journal } from './writer.ts';

let root: string;
let file: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-journal-'));
  file = join(root, 'journal.ndjson');
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

async function entriesIn(path: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(path)) entries.push(entry);
  return entries;
}

describe('the writer', () => {
  test('writes a journal that checks out, for its owner alone', async () => {
    const journal = await Journal.create(file, run);
    for (const draft of storyOf(5)) await journal.append(draft);
    expect(journal.totals).toEqual({ calls: 5, denied: 1 });
    await journal.close();
    await journal.close();
    expect(await checkJournal(file)).toMatchObject({
      verdict: 'closed',
      run,
      head: journal.head,
      entries: journal.entries,
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(root)).toEqual(['journal.ndjson']);
  });

  test('keeps the order of 2,000 appends made at once, to memory or to the disk', async () => {
    for (const durability of ['process', 'power'] as const) {
      const path = `${file}.${durability}`;
      const journal = await Journal.create(path, run, { durability });
      const notes = Array.from({ length: 2000 }, (_, n): Draft => ({ type: 'note', data: { text: `${n}` } }));
      await Promise.all([opened, ...notes, closed(0)].map((draft) => journal.append(draft)));
      await journal.close();
      expect((await checkJournal(path)).verdict).toBe('closed');
      const texts = (await entriesIn(path)).flatMap((entry) =>
        entry.type === 'note' ? [Number(entry.data.text)] : [],
      );
      expect(texts).toEqual(Array.from({ length: 2000 }, (_, n) => n));
    }
  });

  test('has the intent in the file before the effect, and the outcome after', async () => {
    const journal = await Journal.create(file, run);
    await journal.append(opened);
    const end = await journal.intend(intended('a').data);
    expect((await entriesIn(file)).at(-1)).toMatchObject({ type: 'call.intended', data: { callId: 'a' } });
    expect(journal.openCalls).toEqual(['a']);
    await end({ outcome: { kind: 'timed_out', afterMs: 5 }, ms: 5 });
    expect((await entriesIn(file)).at(-1)).toMatchObject({ type: 'call.ended', data: { callId: 'a' } });
    expect(journal.openCalls).toEqual([]);
    await journal.close();
  });

  test('refuses what makes no sense and goes on as if it had not been said', async () => {
    const journal = await Journal.create(file, run);
    await expect(journal.append(started)).rejects.toMatchObject({ code: 'internal' });
    await journal.append(opened);
    await journal.append(intended('a'));
    await expect(journal.append(opened)).rejects.toMatchObject({ code: 'internal' });
    await expect(journal.append(intended('a'))).rejects.toMatchObject({ code: 'call_exists' });
    await expect(journal.append(ended('b'))).rejects.toMatchObject({ code: 'internal' });
    await expect(journal.append(denied('a'))).rejects.toMatchObject({ code: 'internal' });
    await expect(journal.append(closed(1))).rejects.toThrow(/no outcome: a/);
    await journal.append(ended('a'));
    await expect(journal.append(ended('a'))).rejects.toMatchObject({ code: 'internal' });
    await expect(journal.append(closed(2))).rejects.toThrow(/states 2 calls/);
    await expect(journal.append(attached(2))).rejects.toThrow(/0 came before it/);
    await journal.append(closed(1));
    await expect(journal.append(lost)).rejects.toMatchObject({ code: 'run_not_open' });
    await journal.close();
    expect((await checkJournal(file)).verdict).toBe('closed');
  });

  test('clips what is too long, so that an outcome is never lost for its length', async () => {
    const journal = await Journal.create(file, run);
    await journal.append(opened);
    const end = await journal.intend(intended('a').data);
    const message = '\u001b'.repeat(1_000_000);
    await end({ outcome: { kind: 'failed' }, ms: 1, error: { code: 'io', message } });
    await journal.append(closed(1));
    await journal.close();
    const [, , entry] = await entriesIn(file);
    const told = entry?.type === 'call.ended' ? entry.data.error?.message : undefined;
    expect(told).toBe(`${'\u001b'.repeat(textMax)} [${1_000_000 - textMax} more clipped]`);
    expect((await checkJournal(file)).verdict).toBe('closed');
  });

  test('writes one line of printable ASCII for every entry, whatever is in it', async () => {
    const journal = await Journal.create(file, run);
    const text = 'a\nb\r\u001b]52;c;x\u0007\u202e\u2028\u009b\u007f\udc80é🧤"\\';
    await journal.append({ ...opened, data: { ...opened.data, intent: text } } as Draft);
    await journal.append(closed(0));
    await journal.close();
    const content = await readFile(file, 'latin1');
    expect(content).toMatch(/^[\x20-\x7e]+\n[\x20-\x7e]+\n$/);
    const [entry] = await entriesIn(file);
    expect(entry?.type === 'run.opened' ? entry.data.intent : undefined).toBe(text);
  });

  test('never lets its clock go back', async () => {
    let monoMs = 1000;
    const journal = await Journal.create(file, run, { clock: { nowMs: () => 0, monoMs: () => monoMs } });
    await journal.append(opened);
    monoMs = 1010.5;
    await journal.append({ type: 'note', data: { text: 'x' } });
    monoMs = 900;
    await journal.append(closed(0));
    await journal.close();
    expect((await entriesIn(file)).map((entry) => entry.mono)).toEqual([0, 10.5, 10.5]);
    expect((await entriesIn(file))[0]?.at).toBe('1970-01-01T00:00:00.000Z');
  });
});

describe('a gate that breaks denies', () => {
  test('after a failed write nothing is accepted any more', async () => {
    const ours = await Journal.create(file, run, { atOnce: false });
    await ours.append(opened);
    await breakWrites(ours);
    const both = await Promise.allSettled([ours.append(intended('a')), ours.append(intended('b'))]);
    const later = await Promise.allSettled([ours.append(intended('c')), ours.intend(intended('d').data)]);
    for (const result of [...both, ...later]) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'journal_unavailable' } });
    }
    await ours.close();
    expect(await readdir(root)).toEqual(['journal.ndjson']);
  });

  test('a write that does not come back is a failed one', async () => {
    const journal = await Journal.create(file, run, { deadlineMs: 50, atOnce: false });
    await journal.append(opened);
    await breakWrites(journal, () => new Promise(() => undefined));
    await expect(journal.append(intended('a'))).rejects.toMatchObject({ code: 'journal_unavailable' });
    await expect(journal.append(intended('b'))).rejects.toMatchObject({ code: 'journal_unavailable' });
    await journal.close();
  });

  test('a line that was written in part is a failed one, and set aside by the next writer', async () => {
    const journal = await Journal.create(file, run, { atOnce: false });
    await journal.append(opened);
    await breakWrites(journal, async (bytes) => {
      await appendFile(file, bytes.subarray(0, 20));
      return { bytesWritten: 20, buffer: bytes };
    });
    await expect(journal.append(intended('a'))).rejects.toThrow(/only 20 of/);
    await journal.close();
    vi.restoreAllMocks();
    const { journal: next, recovery } = await Journal.reopen(file);
    expect(recovery).toMatchObject({ tornBytes: 20, closedCalls: [] });
    await next.close();
  });

  /** The prototype of FileHandle is not exported, and the disk of a test does not fail when asked to. */
  async function breakWrites(
    _: Journal,
    instead: (bytes: Buffer) => Promise<{ bytesWritten: number; buffer: Buffer }> = () =>
      Promise.reject(new Error('EIO')),
  ): Promise<void> {
    const { open } = await import('node:fs/promises');
    const probe = await open(join(root, 'probe'), 'w');
    const prototype = Object.getPrototypeOf(probe) as typeof probe;
    await probe.close();
    await rm(join(root, 'probe'));
    vi.spyOn(prototype, 'write').mockImplementation(((bytes: Buffer) => instead(bytes)) as never);
  }
  afterEach(() => {
    vi.restoreAllMocks();
  });
});

describe('one run has one writer', () => {
  test('a second one in this process is refused, until the first has closed', async () => {
    const first = await Journal.create(file, run);
    await first.append(opened);
    await expect(Journal.reopen(file)).rejects.toMatchObject({ code: 'journal_unavailable' });
    await expect(Journal.create(file, run)).rejects.toMatchObject({ code: 'journal_unavailable' });
    await first.append({ type: 'note', data: { text: 'undisturbed' } });
    await first.close();
    await expect(Journal.create(file, run)).rejects.toMatchObject({ code: 'journal_unavailable' });
    const { journal } = await Journal.reopen(file);
    await journal.close();
  });

  test('a second process is refused while the first lives, and takes over once it was killed', async () => {
    const child = await writerProcess();
    await expect(Journal.reopen(file)).rejects.toThrow(new RegExp(`process ${child.pid}`));
    child.kill('SIGSTOP');
    await expect(Journal.reopen(file)).rejects.toMatchObject({ code: 'journal_unavailable' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { journal, recovery } = await Journal.reopen(file);
    expect(recovery.closedCalls).toEqual(['of-the-child']);
    await journal.close();
    expect(await readdir(root)).toEqual(['journal.ndjson']);
  });

  test('a lock that cannot be read is not swept away', async () => {
    await writeFile(`${file}.lock.somebody`, '');
    await expect(Journal.create(file, run)).rejects.toMatchObject({ code: 'journal_unavailable' });
    expect(await readdir(root)).toEqual(['journal.ndjson.lock.somebody']);
  });

  async function writerProcess(): Promise<ChildProcess> {
    const here = (name: string): string => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)));
    const program = await compiled(`
       import { Journal } from ${here('./writer.ts')};
       import { intended, opened, run } from ${here('./story.fixture.ts')};
       const journal = await Journal.create(process.argv[2], run);
       await journal.append(opened);
       await journal.append(intended('of-the-child'));
       process.send?.('ready');
       setInterval(() => undefined, 1000);`);
    const child = fork(program, [file], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    await once(child, 'message');
    return child;
  }
});

describe('taking up the journal of a dead writer', () => {
  test('every intent gets its outcome, a torn line is set aside, and a second time changes nothing', async () => {
    const lines = linesOf([opened, started, intended('a'), intended('b'), ended('a'), intended('c')]);
    await writeFile(file, textOf(lines));
    await truncate(file, Buffer.byteLength(textOf(lines)) - 9);
    const { journal, recovery } = await Journal.reopen(file);
    const tornBytes = (lines.at(-1)?.length ?? 0) + 1 - 9;
    expect(recovery).toEqual({ tornBytes, tornFile: 'journal.ndjson.6.torn', closedCalls: ['b'], closedEgress: [] });
    expect(await readFile(join(root, 'journal.ndjson.6.torn'), 'latin1')).toBe(
      (lines.at(-1) ?? '').slice(0, tornBytes),
    );
    await journal.close();
    const entries = await entriesIn(file);
    expect(entries.slice(5)).toMatchObject([
      { type: 'journal.recovered', data: { tornBytes, tornFile: 'journal.ndjson.6.torn', closedCalls: ['b'] } },
      { type: 'call.ended', data: { callId: 'b', outcome: { kind: 'sandbox_lost' } } },
    ]);
    expect(entries[5]?.mono).toBeGreaterThanOrEqual(entries[4]?.mono ?? 0);

    const again = await Journal.reopen(file);
    expect(again.recovery).toEqual({ tornBytes: 0, closedCalls: [], closedEgress: [] });
    await expect(again.journal.append(intended('a'))).rejects.toMatchObject({ code: 'call_exists' });
    expect(again.journal.totals).toEqual({ calls: 2, denied: 0 });
    await again.journal.append(closed(2));
    await again.journal.close();
    expect(await checkJournal(file)).toMatchObject({ verdict: 'closed', entries: 8 });
    await expect(Journal.reopen(file)).rejects.toMatchObject({ code: 'run_not_open' });
  });

  test('what was under way on the network is closed as cut, and its numbers are not used again', async () => {
    await writeFile(file, textOf(linesOf([opened, decided(1), egressEnded(1), decided(2), decided(3, 'denied')])));
    const { journal, recovery } = await Journal.reopen(file);
    expect(recovery.closedEgress).toEqual([2]);
    await expect(journal.append(decided(3))).rejects.toThrow(/egress 3 is decided after 3/);
    await expect(journal.append(egressEnded(2))).rejects.toThrow(/not under way/);
    await journal.append(decided(4));
    await expect(journal.append(closed(0))).rejects.toThrow(/egress has no end: 4/);
    await journal.append(egressEnded(4));
    await journal.append(closed(0));
    await journal.close();
    expect((await entriesIn(file)).slice(5, 7)).toMatchObject([
      { type: 'journal.recovered' },
      { type: 'egress.ended', data: { id: 2, result: 'cut' } },
    ]);
    expect(await checkJournal(file)).toMatchObject({ verdict: 'closed' });
  });

  test('context snapshots are counted on', async () => {
    await writeFile(file, textOf(linesOf([opened, attached(1), attached(2)])));
    const { journal } = await Journal.reopen(file);
    await expect(journal.append(attached(2))).rejects.toThrow(/2 came before it/);
    await journal.append(attached(3));
    await journal.append(closed(0));
    await journal.close();
    expect(await checkJournal(file)).toMatchObject({ verdict: 'closed' });
  });

  test('a broken chain is evidence: it is refused and not touched', async () => {
    const content = textOf(linesOf([opened, started, intended('a')])).replace('echo', 'evil');
    await writeFile(file, content);
    await expect(Journal.reopen(file)).rejects.toThrow(/line 3 is edited/);
    await writeFile(file, `${content}{"torn`);
    await expect(Journal.reopen(file)).rejects.toMatchObject({ code: 'journal_broken' });
    expect(await readFile(file, 'utf8')).toBe(`${content}{"torn`);
    expect(await readdir(root)).toEqual(['journal.ndjson']);
  });

  test('a journal without a whole entry says that its run never began', async () => {
    for (const content of ['', '{"v":1']) {
      await writeFile(file, content);
      await expect(Journal.reopen(file)).rejects.toThrow(/never began/);
    }
    await expect(Journal.reopen(join(root, 'none'))).rejects.toThrow(/never began/);
  });
});

describe('reading along', () => {
  test('gives what is there, then what comes, and ends with the run', async () => {
    const journal = await Journal.create(file, run);
    await journal.append(opened);
    const seen: string[] = [];
    const following = (async () => {
      for await (const entry of followEntries(file, { pollMs: 5 })) {
        seen.push(entry.type);
        if (entry.type === 'run.opened') await journal.append({ type: 'note', data: { text: 'now' } });
        if (entry.type === 'note') await journal.append(closed(0));
      }
    })();
    await following;
    expect(seen).toEqual(['run.opened', 'note', 'run.closed']);
    await journal.close();
  });

  test('starts where it is told to, skips a half-written line, stops on the signal', async () => {
    const lines = linesOf([opened, started, intended('a')]);
    await writeFile(file, `${textOf(lines)}{"v":1`);
    const abort = new AbortController();
    const seen: number[] = [];
    for await (const entry of followEntries(file, { fromSeq: 2, pollMs: 5, signal: abort.signal })) {
      seen.push(entry.seq);
      if (entry.seq === 3) abort.abort();
    }
    expect(seen).toEqual([2, 3]);
    expect((await entriesIn(file)).length).toBe(3);
  });

  test('ends where the writer died before the run was closed', async () => {
    await writeFile(file, textOf(linesOf([opened, started])));
    const seen: string[] = [];
    for await (const entry of followEntries(file, { pollMs: 5 })) seen.push(entry.type);
    expect(seen).toEqual(['run.opened', 'sandbox.started']);
  });

  test('names the line that is no entry', async () => {
    await writeFile(file, `${textOf(linesOf([opened]))}nonsense\n`);
    await expect(entriesIn(file)).rejects.toThrow(/line 2/);
  });
});

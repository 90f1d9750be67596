import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Serving } from './fixtures/serving.ts';

let bench: Bench;
let serving: Serving;
let run: string;

const policy = { text: smallPolicyText() };

beforeAll(async () => {
  bench = await Bench.make();
  serving = await Serving.open(bench);
  run = await serving.open({ policy });
});
afterAll(async () => {
  await serving.close();
  await bench.close();
});

interface Streamed {
  readonly bytes: Buffer;
  readonly last: string;
  readonly ended: boolean;
}

/** Reads a stream of output, and cuts the connection after so many bytes of it. */
async function follow(path: string, from: string, cutAfter: number): Promise<Streamed> {
  const answer = await serving.begin(path, { headers: { accept: 'text/event-stream', 'last-event-id': from } });
  const parts: Buffer[] = [];
  let [text, last, ended] = ['', from, false];
  try {
    for await (const part of answer as AsyncIterable<Buffer>) {
      text += part.toString('latin1');
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
        if (fields['event'] === 'end') ended = true;
        else if (fields['data'] !== undefined) parts.push(Buffer.from(fields['data'], 'base64'));
        last = fields['id'] ?? last;
      }
      if (parts.reduce((sum, { length }) => sum + length, 0) >= cutAfter) answer.destroy();
    }
  } catch {
    // we have cut it ourselves
  }
  return { bytes: Buffer.concat(parts), last, ended };
}

describe('output', () => {
  test('arrives as it comes; after a connection that was cut it goes on without a byte lost or doubled', async () => {
    const script =
      'for n in $(seq 400); do printf "%s-%0200d\\n" $n $n; [ $((n % 40)) = 0 ] && sleep 0.05; done; exit 0';
    const calling = serving.call(run, 'long', { tool: 'exec', script });
    const path = `/v1/runs/${run}/calls/long/output`;
    const got: Buffer[] = [];
    let from = '0';
    for (let tries = 0, ended = false; !ended && tries < 50; tries++) {
      const streamed = await follow(path, from, 6_000);
      got.push(streamed.bytes);
      ({ last: from, ended } = streamed);
    }
    const whole = await serving.ask(path, { headers: { accept: 'application/octet-stream' } });
    const expected = Array.from({ length: 400 }, (_, n) => `${n + 1}-${String(n + 1).padStart(200, '0')}\n`).join('');
    expect(got.length).toBeGreaterThan(5);
    expect(Buffer.concat(got).toString()).toBe(expected);
    expect(whole.bytes.toString()).toBe(expected);
    expect((await calling).json).toMatchObject({ ok: true });
  });

  test('is asked for by offset, and waited for', async () => {
    const path = `/v1/runs/${run}/calls/polled/output`;
    const first = serving.ask(`${path}?waitMs=5000`); // before there is such a call
    const calling = serving.call(run, 'polled', { tool: 'exec', script: 'printf one; sleep 0.3; printf two' });
    expect((await first).json).toMatchObject({ offset: 0, nextOffset: 3, text: 'one', ended: false });
    const second = await serving.ask(`${path}?offset=3&waitMs=5000`);
    expect(second.json).toMatchObject({ offset: 3, nextOffset: 6, text: 'two' });
    await calling;
    expect((await serving.ask(`${path}?offset=6`)).json).toMatchObject({ ended: true, text: '' });
    expect((await serving.ask(`${path}?offset=7`)).status).toBe(400);
  });

  test('of a reader that takes nothing waits in its file: the service does not grow, and others are answered', async () => {
    const script = 'head -c 12000000 /dev/zero | tr "\\0" x';
    await serving.call(run, 'flood', { tool: 'exec', script, maxReplyBytes: 256 });
    const before = process.memoryUsage().rss;
    const readers = await Promise.all(
      Array.from({ length: 8 }, () =>
        serving.begin(`/v1/runs/${run}/calls/flood/output`, { headers: { accept: 'text/event-stream' } }),
      ),
    );
    await sleep(300);
    const began = performance.now();
    expect((await serving.ask(`/v1/runs/${run}`)).status).toBe(200);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
    for (const reader of readers) reader.destroy();
  });
});

describe('a call', () => {
  test('whose client has left goes on; the same id gives its answer, and its command ran once', async () => {
    const script = 'sleep 0.3; echo once >> /tmp/marks; wc -l < /tmp/marks';
    const leaving = serving.begin(`/v1/runs/${run}/calls/left`, { method: 'PUT', body: { tool: 'exec', script } });
    leaving.catch(() => undefined);
    await expect.poll(async () => (await serving.ask(`/v1/runs/${run}/calls/left?waitMs=10`)).status).toBe(200);
    void leaving.then((answer) => answer.destroy());
    const again = await serving.call(run, 'left', { tool: 'exec', script });
    expect(again.json).toMatchObject({ ok: true, data: { output: { text: '1\n' } } });
    const other = await serving.call(run, 'left', { tool: 'exec', script: `${script} ` });
    expect([other.status, other.json]).toMatchObject([409, { code: 'call_id_reused' }]);
  });

  test('that is still running is asked how it stands, signalled and given input', async () => {
    const script = 'trap "echo caught; exit 5" INT; read line; echo "got $line"; while :; do sleep 0.05; done';
    const at = `/v1/runs/${run}/calls/talk`;
    const started = await serving.call(run, 'talk', { tool: 'exec', script, keepStdinOpen: true, yieldMs: 0 });
    expect(started.json).toMatchObject({ data: { state: 'running' } });
    await serving.ask(`${at}/stdin`, { method: 'POST', body: { data: { utf8: 'hello\n' } } });
    await expect.poll(async () => (await serving.ask(`${at}/output`)).json['text']).toBe('got hello\n');
    await serving.ask(`${at}/signal`, { method: 'POST', body: { signal: 'INT', target: 'all' } });
    const ended = await serving.ask(`${at}?waitMs=10000`);
    expect(ended.json).toMatchObject({ callId: 'talk', data: { state: 'ended', exitCode: 5 } });
  });
});

describe('sockets', () => {
  const connect = (path: string): WebSocket => new WebSocket(`ws+unix:${serving.socket}:${path}`);

  test('a terminal is typed at, resized and left with the exit code', async () => {
    const call = { tool: 'exec', argv: ['sh'], tty: { columns: 80, rows: 24 }, yieldMs: 0 };
    await serving.call(run, 'terminal', call);
    const socket = connect(`/v1/runs/${run}/calls/terminal/pty`);
    let shown = '';
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) shown += data.toString();
    });
    await once(socket, 'open');
    socket.send(JSON.stringify({ resize: { columns: 132, rows: 50 } }));
    socket.send(Buffer.from('stty size; cat\nping\n'));
    await expect.poll(() => shown).toMatch(/50 132\r\nping/); // said by cat
    socket.send(JSON.stringify({ signal: 'INT' }));
    await expect.poll(() => shown).toMatch(/ping\r\n[^]*\$ $/); // what is typed before the prompt is dropped by the shell
    socket.send(Buffer.from('exit 7\n'));
    const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
    expect(code).toBe(1000);
    expect(JSON.parse(reason.toString())).toMatchObject({ exitCode: 7 });
    const journal = (await serving.ask(`/v1/runs/${run}/journal`)).bytes.toString();
    expect(journal).toMatch(/"callId":"pty-[0-9a-z]{26}".*"tool":"exec_write"|"tool":"exec_write".*"callId":"pty-/);
  });

  test('a port inside is reached by a stock client, from the first byte on; one that is shut is a problem', async () => {
    const server = `
import socket
s = socket.create_server(('127.0.0.1', 8000))
print('ready', flush=True)
while True:
    c, _ = s.accept()
    while (b := c.recv(65536)): c.sendall(b)
    c.close()
`;
    await serving.call(run, 'echo', { tool: 'exec', argv: ['python3', '-c', server], yieldMs: 0 });
    await serving.ask(`/v1/runs/${run}/calls/echo/output?waitMs=5000`);
    const socket = connect(`/v1/runs/${run}/ports/8000`);
    const sent = Buffer.alloc(1_500_000, 'abc');
    const parts: Buffer[] = [];
    socket.on('message', (data: Buffer) => parts.push(data));
    socket.on('open', () => {
      for (let at = 0; at < sent.length; at += 100_000) socket.send(sent.subarray(at, at + 100_000));
    });
    await expect.poll(() => parts.reduce((sum, { length }) => sum + length, 0), { timeout: 10_000 }).toBe(sent.length);
    expect(digest(Buffer.concat(parts))).toBe(digest(sent));
    socket.close();
    const shut = connect(`/v1/runs/${run}/ports/8001`);
    const [, answer] = (await once(shut, 'unexpected-response')) as [unknown, { statusCode: number }];
    expect(answer.statusCode).toBe(400);
    await serving.ask(`/v1/runs/${run}/calls/echo/kill`, { method: 'POST' });
  });

  test('one that nobody may have is refused before anything is opened', async () => {
    const { port } = serving;
    const stranger = serving.key({ team: 'blue' });
    const statuses = await Promise.all(
      [{}, { authorization: `Bearer ${stranger}` }].map(async (headers) => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/runs/${run}/ports/8000`, { headers });
        const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
        return answer.statusCode;
      }),
    );
    expect(statuses).toEqual([401, 404]);
  });
});

describe('files', () => {
  const body = Buffer.from([0xff, 0x00, 0xc3, 0x28, 0x0a]);

  test('go in and come out byte by byte, and are not overwritten by whoever has not seen them', async () => {
    const at = `/v1/runs/${run}/files/src/deep/b%20in.dat`;
    expect((await serving.ask(at)).json).toMatchObject({ status: 404, code: 'not_found', tool: { code: 'not_found' } });
    expect((await serving.ask(at, { method: 'PUT', body })).status).toBe(200);
    const read = await serving.ask(at);
    expect(read.bytes.equals(body)).toBe(true);
    const etag = read.headers.etag ?? '';
    const write = (headers: Record<string, string>) =>
      serving.ask(at, { method: 'PUT', body: Buffer.from('new'), headers });
    expect((await write({ 'if-match': `"sha256:${'0'.repeat(64)}"` })).json).toMatchObject({
      status: 409,
      code: 'conflict',
    });
    expect((await write({ 'if-match': etag })).status).toBe(200);
    expect((await serving.ask(`${at}?offset=1&bytes=1`)).bytes.toString()).toBe('e');
  });

  test('an archive goes in whole and comes out whole', async () => {
    await serving.call(run, 'tree', { tool: 'exec', script: 'mkdir -p src/t/u; echo x > src/t/u/f; ln -s u src/t/l' });
    const archive = await serving.ask(`/v1/runs/${run}/archive/src/t`);
    const headers = { 'content-type': 'application/x-tar' };
    const put = await serving.ask(`/v1/runs/${run}/archive/src/copy`, { method: 'PUT', body: archive.bytes, headers });
    expect(put.status, put.bytes.toString()).toBe(200);
    const listed = await serving.call(run, 'list', { tool: 'exec', script: 'cd src/copy; find . | sort; cat l/f' });
    expect(listed.json).toMatchObject({ data: { output: { text: '.\n./l\n./u\n./u/f\nx\n' } } });
  });

  test('a path stays where the sandbox is: what looks like a way out of the route is refused', async () => {
    for (const path of ['%2e%2e/journal', '../journal', 'a/../../b', '%2E./b', 'a%00b', 'a%5Cb', 'a\\b', './b']) {
      const { json } = await serving.ask(`/v1/runs/${run}/files/${path}`);
      expect(json['code'], path).toBe('invalid_request');
    }
    const inside = await serving.call(run, 'passwd', { tool: 'exec', script: 'cat /etc/passwd' });
    const read = await serving.ask(`/v1/runs/${run}/files/..%2F..%2Fetc%2Fpasswd`);
    expect(inside.json).toMatchObject({ data: { output: { text: read.bytes.toString() } } });
  });
});

test('a run is snapshot, put back, forked, looked at and closed, and its diff is there afterwards', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n' });
  const id = await serving.open({ policy, workspace, name: 'whole', intent: 'to see it all' });
  const sh = (at: string, callId: string, script: string) => serving.call(at, callId, { tool: 'exec', script });
  await sh(id, '1', 'echo two >> src/a.txt');
  const snapshot = (await serving.ask(`/v1/runs/${id}/snapshots`, { method: 'POST' })).json['id'];
  await sh(id, '2', 'echo three >> src/a.txt');
  const fork = { method: 'POST', body: { count: 1, snapshot } };
  const { runs } = (await serving.ask(`/v1/runs/${id}/forks`, fork)).json as { runs: { id: string }[] };
  expect((await sh(runs[0]?.id ?? '', 'f', 'cat src/a.txt')).json).toMatchObject({
    data: { output: { text: 'one\ntwo\n' } },
  });
  const ofFork = (await serving.ask(`/v1/runs/${runs[0]?.id}/journal`)).bytes.toString();
  expect(ofFork).toMatch(/"data":\{"by":"local:\d+","how":"fork_source"\}.*"type":"participant.joined"/);
  const restored = await serving.ask(`/v1/runs/${id}/restore`, { method: 'POST', body: { snapshot } });
  expect(restored.status).toBe(204);
  const open = await serving.ask(`/v1/runs/${id}/patch`);
  expect(open.bytes.toString()).toContain('+two\n');
  expect(open.bytes.toString()).not.toContain('+three');
  const { json } = await serving.ask(`/v1/runs/${id}/close`, { method: 'POST', body: { summary: 'done' } });
  expect(json).toMatchObject({
    state: 'closed',
    outcome: 'finished',
    name: 'whole',
    openedBy: expect.stringMatching(/^local:/),
  });
  expect((await serving.ask(`/v1/runs/${id}/patch`)).bytes.equals(open.bytes)).toBe(true);
  expect((await serving.ask(`/v1/runs/${id}/diff`)).json).toMatchObject({ changes: [{ path: 'src/a.txt', added: 1 }] });
  expect((await serving.ask(`/v1/runs/${id}/calls/1`)).json).toMatchObject({ callId: '1', ok: true });
  expect((await sh(id, '1', 'echo two >> src/a.txt')).json).toMatchObject({ callId: '1', ok: true });
  expect((await sh(id, 'new', 'true')).json).toMatchObject({ code: 'run_not_open' });
  const journal = (await serving.ask(`/v1/runs/${id}/journal?after=1`)).bytes.toString().trimEnd().split('\n');
  expect(journal.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual(journal.map((_, n) => n + 2));
});

test('who wrote the lines of a file is told of a run that is open, of one that is closed, and of a fork', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n' });
  const id = await serving.open({ policy, workspace });
  const write = (at: string, callId: string, line: string) =>
    serving.call(at, callId, { tool: 'exec', script: `echo ${line} >> src/a.txt` });
  await write(id, 'first', 'two');
  const snapshot = (await serving.ask(`/v1/runs/${id}/snapshots`, { method: 'POST' })).json['id'];
  const fork = { method: 'POST', body: { count: 1, snapshot } };
  const { runs } = (await serving.ask(`/v1/runs/${id}/forks`, fork)).json as { runs: { id: string }[] };
  const forked = runs[0]?.id ?? '';
  expect((await write(forked, 'second', 'three')).json).toMatchObject({ ok: true });
  const writers = async (run: string): Promise<unknown[]> => {
    const { json } = await serving.ask(`/v1/runs/${run}/blame?path=src/a.txt`);
    const { authors } = json as { authors: { kind: string; call?: { run: string; callId: string } }[] };
    const { spans } = json['told'] as { spans: { lines: string[]; authors: number[] }[] };
    return spans.map(({ lines, authors: by }) => [
      lines,
      by.map((n) => authors[n]?.call && [authors[n].call.run, authors[n].call.callId]),
    ]);
  };
  const ofFirst = [
    [['one'], [undefined]],
    [['two'], [[id, 'first']]],
  ];
  // Of an open run it is as its files were last looked at, which is soon after a command.
  await expect.poll(() => writers(id), { timeout: 10_000 }).toEqual(ofFirst);
  await expect
    .poll(() => writers(forked), { timeout: 10_000 })
    .toEqual([...ofFirst, [['three'], [[forked, 'second']]]]);
  await serving.ask(`/v1/runs/${id}/close`, { method: 'POST', body: {} });
  expect(await writers(id)).toEqual(ofFirst);
});

test('a call waits for another person, by HTTP alone: never for whoever made it', async () => {
  const rules = `approvals: { categories: { dependency: { timeout: 20s } } }
commands:
  - { id: pull, match: { program: curl }, effect: require_approval, category: dependency, tests: { match: [curl x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;
  const [ann, bob] = [serving.key(), serving.key({ identity: 'bob', scopes: ['approve', 'read'] })];
  const id = await serving.open({ policy: { text: smallPolicyText(rules) } }, ann);
  const call = { tool: 'exec', argv: ['curl', '--version'] };
  const waiting = await serving.call(id, 'c1', call, ann);
  expect(waiting.json).toMatchObject({ error: { code: 'waiting_for_approval' } });
  const { approvals } = (await serving.ask('/v1/approvals?state=pending', { key: bob })).json as {
    approvals: { id: string }[];
  };
  const at = `/v1/approvals/${approvals[0]?.id ?? ''}`;
  const approve = { method: 'POST', body: { approve: true } };
  expect((await serving.ask(at, { ...approve, key: ann })).status).toBe(403);
  expect((await serving.ask(at, { ...approve, key: bob })).json).toMatchObject({ state: 'approved' });
  await expect.poll(async () => (await serving.call(id, 'c1', call, ann)).json['error']).toBe(null);
});

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

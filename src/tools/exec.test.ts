import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../test/fixtures/memory-files.ts';
import type { CallEnd, ExecSpec } from '../sandbox/spec.ts';
import { runTool } from './run-tool.ts';
import { ToolCall, type ToolCallInput } from './tool-call.ts';
import { ToolContext } from './tool-context.ts';
import type { CallOutput, StartedCall } from './started-call.ts';
import type { EgressDenied, ExecData, ToolResult } from './tool-result.ts';

/** A command whose output and end the test decides. */
class FakeCall implements StartedCall {
  readonly id: string;
  readonly written: string[] = [];
  readonly ended: Promise<CallEnd>;
  result: CallEnd | undefined;
  readonly onDisk = false;
  aux: Buffer = Buffer.alloc(0);
  #bytes = { merged: Buffer.alloc(0), stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  #end: (end: CallEnd) => void = () => undefined;

  constructor(id: string) {
    this.id = id;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get output(): CallOutput {
    const bytes = this.#bytes;
    return {
      totals: { totalBytes: bytes.merged.length, stdoutBytes: bytes.stdout.length, stderrBytes: bytes.stderr.length },
      size: (view = 'merged') => bytes[view].length,
      // Never more than 1000 bytes at once, as a log may.
      read: (offset, max, view = 'merged') =>
        Promise.resolve({ bytes: bytes[view].subarray(offset, offset + Math.min(max, 1000)) }),
      aux: () => this.aux,
    };
  }

  print(bytes: string | Buffer, stream: 'stdout' | 'stderr' = 'stdout'): this {
    const more = Buffer.from(bytes as string);
    this.#bytes = {
      ...this.#bytes,
      merged: Buffer.concat([this.#bytes.merged, more]),
      [stream]: Buffer.concat([this.#bytes[stream], more]),
    };
    return this;
  }

  exit(code: number): this {
    const { totals } = this.output;
    this.result = {
      outcome: { kind: 'exited', code },
      wallMs: 5,
      cpuMs: 1,
      maxRssBytes: 1,
      descendantsAlive: 0,
      killed: 0,
      output: totals,
    };
    this.#end(this.result);
    return this;
  }

  write(bytes: Uint8Array): Promise<void> {
    this.written.push(Buffer.from(bytes).toString());
    return Promise.resolve();
  }

  closeStdin(): Promise<void> {
    this.written.push('EOF');
    return Promise.resolve();
  }

  signal(signal: number, target?: string): void {
    this.written.push(`signal ${signal} ${target}`);
  }

  kill(): void {
    this.written.push('kill');
  }

  resize(columns: number, rows: number): void {
    this.written.push(`${columns}x${rows}`);
  }
}

class Bench {
  readonly specs: ExecSpec[] = [];
  readonly context: ToolContext;

  constructor(begin: (call: FakeCall) => void, files = new MemoryFiles(), denied: readonly EgressDenied[] = []) {
    this.context = new ToolContext({
      files,
      egressDenied: () => denied,
      start: (id, spec) => {
        this.specs.push(spec);
        const call = new FakeCall(id);
        begin(call);
        return Promise.resolve(call);
      },
    });
  }

  async run(call: ToolCallInput, id = 'c1'): Promise<ToolResult> {
    return await runTool(this.context, id, ToolCall.parse(call));
  }

  async exec(call: Partial<Extract<ToolCallInput, { tool: 'exec' }>>, id?: string): Promise<ExecData> {
    const { data } = await this.run({ tool: 'exec', script: 'x', ...call }, id);
    if (data?.kind !== 'exec') throw new Error('not an exec');
    return data;
  }
}

describe('exec', () => {
  it('replies with the whole output when it fits', async () => {
    const data = await new Bench((call) => call.print('out\n').print('err\n', 'stderr').exit(0)).exec({});
    expect(data).toMatchObject({
      state: 'ended',
      exitCode: 0,
      output: { text: 'out\nerr\n', omittedBytes: 0, tail: null },
      nextOffset: 8,
    });
  });

  it('is ok only with exit code 0, and has the same keys otherwise', async () => {
    const good = await new Bench((call) => call.exit(0)).run({ tool: 'exec', argv: ['true'] });
    const bad = await new Bench((call) => call.exit(3)).run({ tool: 'exec', argv: ['false'] });
    const wrong = await new Bench((call) => call.exit(0)).run({ tool: 'stat', path: 'nope' });
    expect([good.ok, bad.ok, wrong.ok]).toEqual([true, false, false]);
    expect(Object.keys(bad)).toEqual(Object.keys(good));
    expect(Object.keys(wrong)).toEqual(Object.keys(good));
    expect(bad.text).toBe('Exit code 3.');
  });

  it('keeps head and tail of long output and counts exactly what is between', async () => {
    const all = Buffer.from('é'.repeat(20_000)); // 40,000 bytes; every cut is inside a character or just beside one
    const bench = new Bench((call) => call.print('x').print(all).exit(0));
    const { output } = await bench.exec({ maxReplyBytes: 1000 });
    if (output === null || output.tail === null || output.omittedOffset === null)
      throw new Error('nothing was omitted');
    expect(output.head.utf8 && output.tail.utf8).toBe(true);
    expect(output.head.bytes + output.omittedBytes + output.tail.bytes).toBe(40_001);
    expect(output.omittedOffset).toBe(output.head.bytes);
    expect(output.text).toContain(
      `… ${output.omittedBytes} bytes omitted; read them with output(callId c1, offset ${output.omittedOffset}) …`,
    );
    const read = await bench.run({ tool: 'output', callId: 'c1', offset: output.omittedOffset, maxBytes: 900 });
    expect(read.data).toMatchObject({ kind: 'output', offset: output.omittedOffset, content: { utf8: true } });
  });

  it('gives exact bytes where output is not text', async () => {
    const bytes = Buffer.from([0xc3, 0x28, 0x00, 0xff]);
    const { output } = await new Bench((call) => call.print(bytes).exit(0)).exec({});
    expect(output?.head).toEqual({ text: '\ufffd(\0\ufffd', utf8: false, base64: bytes.toString('base64'), bytes: 4 });
  });

  it('returns after yieldMs with what there is, and exec_poll brings only what is new', async () => {
    let call: FakeCall | undefined;
    const bench = new Bench((started) => {
      call = started.print(Buffer.from([0x61, 0xc3]));
    });
    const first = await bench.exec({ yieldMs: 1 });
    expect(first).toMatchObject({
      state: 'running',
      outcome: null,
      exitCode: null,
      output: { text: 'a' },
      nextOffset: 1,
    });
    call?.print(Buffer.from([0xa9, 0x0a])).exit(0);
    const { data } = await bench.run({ tool: 'exec_poll', callId: 'c1', fromOffset: first.nextOffset });
    expect(data).toMatchObject({ state: 'ended', output: { text: 'é\n', fromOffset: 1 }, nextOffset: 4 });
  });

  it('gives stdout and stderr apart when asked, the room of one to the other', async () => {
    const bench = new Bench((call) => call.print('x'.repeat(900)).print('err', 'stderr').exit(0));
    const data = await bench.exec({ streams: 'split', maxReplyBytes: 1000 });
    expect(data).toMatchObject({ output: null, stdout: { omittedBytes: 0 }, stderr: { text: 'err' } });
  });

  it('passes on signals, input, size and kill, and knows its calls', async () => {
    let call: FakeCall | undefined;
    const bench = new Bench((started) => (call = started));
    await bench.exec({ yieldMs: 0, keepStdinOpen: true, stdin: { utf8: 'first' } });
    await bench.run({ tool: 'exec_write', callId: 'c1', data: { base64: 'aGk=' }, close: true });
    await bench.run({ tool: 'exec_signal', callId: 'c1', signal: 'INT' });
    await bench.run({ tool: 'exec_resize', callId: 'c1', columns: 80, rows: 24 });
    await bench.run({ tool: 'exec_kill', callId: 'c1' });
    expect(call?.written).toEqual(['first', 'hi', 'EOF', 'signal 2 foreground', '80x24', 'kill']);
    expect((await bench.run({ tool: 'exec_list' })).data).toMatchObject({
      calls: [{ callId: 'c1', state: 'running' }],
    });
    await expect(bench.run({ tool: 'exec_poll', callId: 'c2' })).rejects.toMatchObject({ code: 'call_not_found' });
  });

  it('tells what it was refused on the network, and what would allow it', async () => {
    const refused = { host: 'a.test', port: 443, method: 'PUT', path: '/x', rule: 'api', reason: 'is for GET' };
    const denied = Array.from({ length: 7 }, (_, n) => ({
      ...refused,
      hint: 'Ask for PUT.',
      count: n + 1,
      certain: n < 3,
    }));
    const { data, text } = await new Bench((call) => call.exit(22), new MemoryFiles(), denied).run({
      tool: 'exec',
      argv: ['curl'],
    });
    expect(data).toMatchObject({ exitCode: 22, egressDenied: denied });
    expect(text.split('\n')).toEqual([
      'Exit code 22.',
      'Refused on the network by the policy of this run:',
      '- PUT a.test:443/x: is for GET (api)',
      '- PUT a.test:443/x, 2 times: is for GET (api)',
      '- PUT a.test:443/x, 3 times: is for GET (api)',
      '- PUT a.test:443/x, 4 times: is for GET (api); perhaps of another call',
      '- PUT a.test:443/x, 5 times: is for GET (api); perhaps of another call',
      '- and 2 more',
      'Ask for PUT.',
    ]);
  });

  it('runs scripts with bash only where the image has it, and looks once', async () => {
    const files = new MemoryFiles();
    files.put('/usr/bin/bash', 'x', 0o755);
    const shells = async (bench: Bench): Promise<unknown> => {
      await bench.exec({});
      await bench.exec({ shell: 'sh' });
      return bench.specs.map((spec) => spec.command.kind === 'script' && spec.command.shell);
    };
    expect(await shells(new Bench((call) => call.exit(0), files))).toEqual([['/usr/bin/bash'], ['/bin/sh']]);
    expect(await shells(new Bench((call) => call.exit(0)))).toEqual([['/bin/sh'], ['/bin/sh']]);
  });
});

describe('a shell session', () => {
  const state = (cwd: string, ...env: readonly string[]): Buffer =>
    Buffer.from(['glovebox-shell-1', '0027\n', `${cwd}\n`, 'PATH=/bin', ...env, '', 'end', ''].join('\0'));

  it('starts the next call where the last one ended', async () => {
    const bench = new Bench((call) => {
      call.aux = state('/usr', 'A=1');
      call.exit(0);
    });
    const data = await bench.exec({ session: 's' });
    expect(data.session).toEqual({ name: 's', saved: true, reason: null, cwd: '/usr' });
    await bench.exec({ session: 's', env: { B: '2' } }, 'c2');
    await bench.exec({ session: 'other' }, 'c3');
    expect(bench.specs[1]).toMatchObject({ umask: 0o027, aux: true, env: { A: '1', B: '2', PATH: '/bin' } });
    expect(bench.specs[1]?.command).toMatchObject({ shell: expect.arrayContaining(['/usr']) });
    expect(bench.specs[2]?.env).toEqual({});
  });

  it('keeps the state before when a call was killed, and says so', async () => {
    const auxes = [state('/usr'), Buffer.alloc(0)];
    const bench = new Bench((call) => {
      call.aux = auxes.shift() ?? Buffer.alloc(0);
      call.exit(137);
    });
    await bench.exec({ session: 's' });
    const result = await bench.run({ tool: 'exec', script: 'x', session: 's' }, 'c2');
    expect(result.data).toMatchObject({ session: { saved: false, cwd: '/usr' } });
    expect(result.text).toContain('Shell state was not saved');
  });

  it('is saved also when nobody waits for the end', async () => {
    let call: FakeCall | undefined;
    const bench = new Bench((started) => (call = started));
    await bench.exec({ session: 's', yieldMs: 0 });
    if (call !== undefined) call.aux = state('/usr');
    call?.exit(0);
    await call?.ended;
    await bench.exec({ session: 's', yieldMs: 0 }, 'c2');
    expect(bench.specs[1]?.umask).toBe(0o027);
  });

  it('that was reset starts afresh, whatever a call that still runs leaves', async () => {
    let call: FakeCall | undefined;
    const bench = new Bench((started) => (call = started));
    await bench.exec({ session: 's', yieldMs: 0 });
    await bench.run({ tool: 'session_reset', session: 's' });
    if (call !== undefined) call.aux = state('/usr');
    call?.exit(0);
    const { data } = await bench.run({ tool: 'exec_poll', callId: 'c1' });
    expect(data).toMatchObject({ session: { saved: false, reason: expect.stringContaining('reset') } });
    expect(bench.context.sessions.get('s')).toBeUndefined();
  });
});

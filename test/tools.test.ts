import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTar } from '../src/tools/archive/read-tar.ts';
import { writeTar } from '../src/tools/archive/write-tar.ts';
import { runTool } from '../src/tools/run-tool.ts';
import { ToolCall, type ToolCallInput } from '../src/tools/tool-call.ts';
import { ToolContext } from '../src/tools/tool-context.ts';
import type { ToolData, ToolResult } from '../src/tools/tool-result.ts';
import { Boxes } from './fixtures/box.ts';

let boxes: Boxes;
let context: ToolContext;
let count = 0;

beforeAll(async () => {
  boxes = await Boxes.make();
  context = new ToolContext((await boxes.open()).sandbox);
});

afterAll(async () => {
  await boxes.close();
});

async function run(call: ToolCallInput, callId = `c${++count}`): Promise<ToolResult> {
  return await runTool(context, callId, ToolCall.parse(call));
}

async function data<K extends ToolData['kind']>(
  kind: K,
  call: ToolCallInput,
  callId?: string,
): Promise<Extract<ToolData, { kind: K }>> {
  const result = await run(call, callId);
  if (result.data?.kind !== kind) throw new Error(`${call.tool}: ${result.text}`);
  return result.data as Extract<ToolData, { kind: K }>;
}

type ExecInput = Omit<Extract<ToolCallInput, { tool: 'exec' }>, 'tool'>;

async function exec(call: ExecInput, callId?: string): Promise<Extract<ToolData, { kind: 'exec' }>> {
  return await data('exec', { tool: 'exec', ...call }, callId);
}

async function printed(call: ExecInput): Promise<string> {
  return (await exec(call)).output?.text ?? '';
}

async function text(path: string): Promise<string> {
  return (await data('content', { tool: 'read', path })).content.text;
}

async function write(path: string, utf8: string): Promise<void> {
  await data('entry', { tool: 'write', path, content: { utf8 } });
}

describe('exec', () => {
  it('runs argv without a shell, and a script with one', async () => {
    expect(await printed({ argv: ['echo', '$HOME', '*'] })).toBe('$HOME *\n');
    expect(await printed({ script: 'cd /usr && pwd; echo "$0"' })).toMatch(/^\/usr\n/);
  });

  it('tells failures apart', async () => {
    expect(await exec({ script: 'exit 3' })).toMatchObject({ exitCode: 3, outcome: { kind: 'exited', code: 3 } });
    expect(await exec({ argv: ['no-such-program'] })).toMatchObject({
      exitCode: 127,
      outcome: { kind: 'not_started' },
    });
    expect(await exec({ script: 'kill -9 $$' })).toMatchObject({ exitCode: 137, outcome: { kind: 'signaled' } });
    expect(await exec({ argv: ['true'], cwd: 'nope' })).toMatchObject({ outcome: { reason: 'bad_cwd' } });
  });

  it('returns partial output with a timeout, and ends the whole tree', async () => {
    const ended = await exec({ script: 'echo before; sleep 60 & sleep 61', killAfterMs: 300 });
    expect(ended).toMatchObject({ exitCode: 124, outcome: { kind: 'timed_out' }, output: { text: 'before\n' } });
    expect(await printed({ script: 'cat /proc/[0-9]*/cmdline | tr "\\0" " "' })).not.toContain('sleep 6');
  });

  it('goes on after yieldMs, and what it prints later is read once', async () => {
    const first = await exec(
      { script: 'echo one; read line; echo "two $line"', keepStdinOpen: true, yieldMs: 200 },
      'slow',
    );
    expect(first).toMatchObject({ state: 'running', output: { text: 'one\n' } });
    await run({ tool: 'exec_write', callId: 'slow', data: { utf8: 'hello\n' }, close: true });
    const rest = await data('exec', { tool: 'exec_poll', callId: 'slow', fromOffset: first.nextOffset });
    expect(rest).toMatchObject({ state: 'ended', exitCode: 0, output: { text: 'two hello\n' } });
  });

  it('keeps head and tail of a megabyte, and gives the middle on request', async () => {
    const { output } = await exec({ script: 'seq 1 200000', maxReplyBytes: 2000 }, 'big');
    expect(output?.text).toMatch(
      /^1\n2\n[^]*… 1286895 bytes omitted; read them with output\(callId big, offset 1000\) …\n[^]*199999\n200000\n$/,
    );
    const middle = await data('output', { tool: 'output', callId: 'big', offset: 1000, maxBytes: 1_286_895 });
    expect((output?.head.text ?? '') + middle.content.text + (output?.tail?.text ?? '')).toBe(
      Array.from({ length: 200_000 }, (_, n) => `${n + 1}\n`).join(''),
    );
  });

  it('gives binary output exactly, and keeps streams apart when asked', async () => {
    const binary = await exec({ script: String.raw`printf '\303\050\000\377'` });
    expect(binary.output?.head).toMatchObject({
      utf8: false,
      base64: Buffer.from([0xc3, 0x28, 0, 0xff]).toString('base64'),
    });
    const split = await exec({ script: 'echo out; echo err >&2', streams: 'split' });
    expect([split.output, split.stdout?.text, split.stderr?.text]).toEqual([null, 'out\n', 'err\n']);
  });

  it('takes input, environment, and a script of a megabyte', async () => {
    expect(await printed({ argv: ['cat'], stdin: { utf8: 'given' } })).toBe('given');
    expect(await printed({ argv: ['cat'] })).toBe('');
    expect(await printed({ script: 'echo "$A"', env: { A: 'x y' } })).toBe('x y\n');
    const script = `cat <<'END' | wc -c\n${'0123456789abcde\n'.repeat(65_536)}END\n`;
    for (const shell of ['bash', 'sh'] as const) expect((await printed({ script, shell })).trim()).toBe('1048576');
  });

  it('hands no descriptor to what a script runs', async () => {
    const fds = 'ls /proc/self/fd | tr "\\n" " "';
    for (const shell of ['bash', 'sh'] as const) {
      for (const session of [undefined, `fds-${shell}`]) {
        const call = { script: fds, shell, ...(session === undefined ? {} : { session }) };
        expect(await printed(call)).toBe('0 1 2 3 '); // 3 is the directory that ls itself reads
      }
    }
  });

  it('has a terminal where asked, which can be resized and interrupted', async () => {
    const started = await exec(
      { script: 'stty size; trap "stty size; exit 5" INT; while :; do sleep 0.1; done', tty: {}, yieldMs: 500 },
      'tty',
    );
    expect(started).toMatchObject({ state: 'running', output: { text: '40 120\r\n' } });
    await run({ tool: 'exec_resize', callId: 'tty', columns: 80, rows: 24 });
    await run({ tool: 'exec_signal', callId: 'tty', signal: 'INT' });
    const ended = await data('exec', { tool: 'exec_poll', callId: 'tty', fromOffset: started.nextOffset });
    expect(ended.exitCode).toBe(5);
    expect(ended.output?.text).toContain('24 80');
  });

  it('reports what outlives a command, and keeps it only when asked', async () => {
    expect(await exec({ script: 'sleep 77 >/dev/null 2>&1 &' })).toMatchObject({ exitCode: 0, descendantsAlive: 1 });
    expect(await exec({ script: 'sleep 78 >/dev/null 2>&1 &', descendants: 'keep' }, 'kept')).toMatchObject({
      descendantsAlive: 1,
    });
    const running = await printed({ script: 'cat /proc/[0-9]*/cmdline | tr "\\0" " "' });
    expect(running).toContain('sleep 78');
    expect(running).not.toContain('sleep 77');
    await run({ tool: 'exec_kill', callId: 'kept' });
  });

  it('ends a call that is killed as cancelled, and lists all', async () => {
    await exec({ argv: ['sleep', '60'], yieldMs: 0 }, 'victim');
    await run({ tool: 'exec_kill', callId: 'victim' });
    expect(await data('exec', { tool: 'exec_poll', callId: 'victim' })).toMatchObject({
      outcome: { kind: 'cancelled' },
    });
    const { calls } = await data('calls', { tool: 'exec_list' });
    expect(calls).toContainEqual(expect.objectContaining({ callId: 'victim', state: 'ended' }));
  });
});

describe.each(['bash', 'sh'] as const)('a session of %s', (shell) => {
  const session = `s-${shell}`;

  it('carries directory, variables and umask, through exit and set -e', async () => {
    await exec({ session, shell, script: 'mkdir -p d; cd d; export A="x\ny"; umask 077; exit 3' });
    await exec({ session, shell, script: 'set -e; export B=2; false' });
    expect(await printed({ session, shell, script: 'pwd; echo "$A$B"; umask' })).toBe('/workspace/d\nx\ny2\n0077\n');
    expect(await printed({ session: 'another', shell, script: 'pwd; echo "${A-none}"; umask' })).toBe(
      '/workspace\nnone\n0022\n',
    );
  });

  it('keeps its state when a call is killed, and says so', async () => {
    const killed = await exec({ session, shell, script: 'cd /; sleep 60', killAfterMs: 200 });
    expect(killed).toMatchObject({ exitCode: 124, session: { saved: false, cwd: '/workspace/d' } });
    expect(await printed({ session, shell, script: 'pwd' })).toBe('/workspace/d\n');
  });

  it('goes on when its directory was removed, and can be reset', async () => {
    await exec({ script: 'rm -rf d' });
    expect(await printed({ session, shell, script: 'pwd; echo "$B"' })).toContain('/workspace\n2\n');
    await run({ tool: 'session_reset', session });
    expect(await printed({ session, shell, script: 'echo "${B-none}"' })).toBe('none\n');
  });

  it('works on a terminal', async () => {
    await exec({ session: `tty-${shell}`, shell, tty: {}, script: 'cd /usr; export A=1' });
    expect(await printed({ session: `tty-${shell}`, shell, script: 'pwd; echo $A $TERM' })).toBe('/usr\n1 dumb\n');
  });
});

describe('files', () => {
  it('are written at once, read in part, and protected by their digest', async () => {
    const first = await data('entry', { tool: 'write', path: 'a/b/c.txt', content: { utf8: 'one\ntwo\nthree\n' } });
    expect(first.entry).toMatchObject({ type: 'file', sizeBytes: 14, digest: expect.stringMatching(/^sha256:/) });
    const lines = await data('content', {
      tool: 'read',
      path: 'a/b/c.txt',
      range: { fromLine: 2, toLine: 2 },
      lineNumbers: true,
    });
    expect(lines.content.text).toBe('2\ttwo\n');
    const bytes = await data('content', { tool: 'read', path: 'a/b/c.txt', range: { offset: 4, bytes: 3 } });
    expect(bytes).toMatchObject({ content: { text: 'two' }, truncated: false });
    const cut = await data('content', { tool: 'read', path: 'a/b/c.txt', maxBytes: 5 });
    expect(cut).toMatchObject({ content: { bytes: 5 }, truncated: true });
    await write('a/b/c.txt', 'changed');
    const stale = await run({
      tool: 'write',
      path: 'a/b/c.txt',
      content: { utf8: 'x' },
      ifMatch: first.entry.digest as `sha256:${string}`,
    });
    expect(stale.error).toMatchObject({ code: 'conflict' });
    expect(await text('a/b/c.txt')).toBe('changed');
  });

  it('that are binary come and go exactly', async () => {
    const bytes = Buffer.from([0, 0xff, 0xc3, 0x28, 0x0a]);
    await run({ tool: 'write', path: 'bin', content: { base64: bytes.toString('base64') }, mode: 0o755 });
    const read = await data('content', { tool: 'read', path: 'bin' });
    expect(read).toMatchObject({ content: { utf8: false, base64: bytes.toString('base64') }, entry: { mode: 0o755 } });
  });

  it('are edited, moved, removed, and say what is wrong', async () => {
    await write('e.txt', 'a b a\n');
    expect(await data('edited', { tool: 'edit', path: 'e.txt', old: 'a', new: 'c', expectCount: 2 })).toMatchObject({
      lines: [1, 1],
    });
    await run({ tool: 'move', from: 'e.txt', to: 'f.txt' });
    expect(await text('f.txt')).toBe('c b c\n');
    await run({ tool: 'mkdir', path: 'dir/sub' });
    const errors: [ToolCallInput, string][] = [
      [{ tool: 'read', path: 'e.txt' }, 'not_found'],
      [{ tool: 'read', path: 'dir' }, 'is_directory'],
      [{ tool: 'read', path: '/dev/null' }, 'not_regular'],
      [{ tool: 'read', path: '/proc/1/environ' }, 'permission_denied'],
      [{ tool: 'write', path: '/etc/x', content: { utf8: '' } }, 'read_only'],
      [{ tool: 'write', path: 'f.txt', content: { utf8: '' }, create: 'only' }, 'exists'],
      [{ tool: 'remove', path: 'dir' }, 'not_empty'],
      [{ tool: 'move', from: 'f.txt', to: 'bin' }, 'exists'],
      [{ tool: 'edit', path: 'f.txt', old: 'zz', new: '' }, 'no_match'],
    ];
    for (const [call, code] of errors) expect([call, (await run(call)).error?.code]).toEqual([call, code]);
    await data('done', { tool: 'remove', path: 'dir', recursive: true });
  });

  it('are found by name and by content', async () => {
    await write('src/one.ts', 'const needle = 1;\n');
    await write('src/deep/two.ts', 'nothing\nneedle\n');
    await write('src/node_modules/x.ts', 'needle\n');
    await run({ tool: 'write', path: 'src/bin.ts', content: { base64: Buffer.from('needle\0').toString('base64') } });
    const found = await data('entries', { tool: 'glob', pattern: '**/*.ts', path: 'src' });
    expect(found.entries.map((entry) => entry.path)).toEqual(['src/bin.ts', 'src/deep/two.ts', 'src/one.ts']);
    const grep = await data('matches', { tool: 'grep', pattern: '\\bneedle\\b', path: 'src', context: 1 });
    expect(grep.matches.map((m) => `${m.path}:${m.line}:${m.text}`)).toEqual([
      'src/deep/two.ts:1:nothing',
      'src/deep/two.ts:2:needle',
      'src/one.ts:1:const needle = 1;',
    ]);
    expect(grep).toMatchObject({ filesSearched: 2, binarySkipped: 1, truncated: false });
    expect((await data('entries', { tool: 'list', path: 'src' })).entries.map((entry) => entry.path)).toEqual([
      'src/bin.ts',
      'src/deep',
      'src/node_modules',
      'src/one.ts',
    ]);
    expect(await data('matches', { tool: 'grep', pattern: 'needle', path: 'src/one.ts' })).toMatchObject({
      matchCount: 1,
    });
  });
});

describe('patches', () => {
  it('of git are applied as git meant them', async () => {
    const made = await exec({
      script: `set -e; mkdir g; cd g; git init -q .; printf 'a\\nb\\nc\\n' > keep; echo x > gone; seq 30 > old; chmod 644 *
        git add -A; git -c user.name=n -c user.email=e commit -qm 1
        printf 'a\\nB\\nc' > keep; rm gone; git mv old new; sed -i s/15/fifteen/ new; chmod 755 keep; mkdir d; echo n > 'd/with space'
        git add -A; git diff --cached -M > /tmp/p; git reset -q --hard; cat /tmp/p`,
    });
    const patch = (made.output?.text ?? '')
      .replace(/(^|\s)([ab])\/(?=[a-z])/g, '$1$2/g/')
      .replace(/^(rename (?:from|to) )/gm, '$1g/');
    const checked = await data('patched', { tool: 'apply_patch', patch, dryRun: true });
    expect(checked.files.map((file) => `${file.action} ${file.path}`)).toEqual([
      'added g/d/with space',
      'deleted g/gone',
      'updated g/keep',
      'moved g/new',
    ]);
    await data('patched', { tool: 'apply_patch', patch });
    expect(await printed({ script: 'cd g; git add -A; git diff --cached -M | cmp - /tmp/p && echo same' })).toBe(
      'same\n',
    );
  });

  it('that fail half way leave everything as it was', async () => {
    await exec({
      script: 'mkdir -p p/locked; echo a > p/a; echo b > p/locked/b; chmod 555 p/locked; chmod 444 p/locked/b',
    });
    const one = (name: string): string => `*** Update File: p/${name}\n-${name.slice(-1)}\n+X\n`;
    const patch = `*** Begin Patch\n*** Add File: p/new/n\n+n\n${one('a')}${one('locked/b')}*** End Patch\n`;
    expect((await run({ tool: 'apply_patch', patch })).error).toMatchObject({ code: 'permission_denied' });
    expect(await printed({ script: 'cat p/a p/locked/b; ls p' })).toBe('a\nb\na\nlocked\n');
  });
});

describe('archives', () => {
  it('go in and come out with odd names, modes and links', async () => {
    const names = ['a\nb', '-rf', '$(id)', '\udcff\udcfe', 'deep/er/x'];
    const entries = names.map((path) => ({
      path,
      type: 'file' as const,
      mode: 0o755,
      content: Buffer.from(path.slice(0, 2)),
      target: '',
    }));
    const link = {
      path: 'deep/link',
      type: 'symlink' as const,
      mode: 0o777,
      content: Buffer.alloc(0),
      target: '../-rf',
    };
    const tar = writeTar([...entries, link]).toString('base64');
    expect(await data('unpacked', { tool: 'upload', path: 'up', tar })).toMatchObject({ entries: 6 });
    const down = await data('archive', { tool: 'download', path: 'up' });
    const found = readTar(Buffer.from(down.base64, 'base64')).filter((entry) => entry.type !== 'directory');
    const key = (entry: { path: string }): string => entry.path;
    expect(new Map(found.map((entry) => [key(entry), entry]))).toEqual(
      new Map([...entries, link].map((entry) => [key(entry), entry])),
    );
    const single = await data('archive', { tool: 'download', path: 'up/-rf' });
    expect(readTar(Buffer.from(single.base64, 'base64')).map(key)).toEqual(['-rf']);
  });

  it('that are too large or hostile are refused', async () => {
    expect((await run({ tool: 'download', path: 'up', maxBytes: 3 })).error).toMatchObject({ code: 'too_large' });
    const bad = writeTar([{ path: '../x', type: 'file', mode: 0o644, content: Buffer.alloc(0), target: '' }]).toString(
      'base64',
    );
    await expect(run({ tool: 'upload', path: 'up', tar: bad })).rejects.toMatchObject({ code: 'archive_refused' });
  });
});

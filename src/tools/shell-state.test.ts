import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  closeScript,
  parseShellState,
  sessionShell,
  shellStateMaxBytes,
  type ParsedShellState,
  type ShellState,
} from './shell-state.ts';

const scratch = mkdtempSync(join(tmpdir(), 'shell-state-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const defaults = new Map([
  ['PATH', '/usr/local/bin:/usr/bin:/bin'],
  ['HOME', '/tmp'],
  ['PAGER', 'cat'],
]);

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly parsed: ParsedShellState;
}

/** Runs a real shell as the supervisor would: script at fd 9, state at fd 3, nothing else open. */
async function run(
  shell: string,
  script: string,
  options: { state?: ShellState; env?: Record<string, string> } = {},
): Promise<Ran> {
  const path = join(scratch, 'script');
  writeFileSync(path, closeScript + script);
  const fd = openSync(path, 'r');
  const [program, ...args] = sessionShell(shell, options.state, options.state?.cwd);
  const env = { ...Object.fromEntries(defaults), ...options.state?.env, ...options.env };
  const closed = Array.from({ length: 5 }, () => 'ignore' as const);
  const child = spawn(program, [...args, '/dev/fd/9'], {
    cwd: '/',
    env,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...closed, fd],
  });
  closeSync(fd);
  const streams = [child.stdout, child.stderr, child.stdio[3]].map(async (stream) => {
    const parts: Buffer[] = [];
    if (stream !== null && stream !== undefined && 'read' in stream)
      for await (const part of stream) parts.push(part as Buffer);
    return Buffer.concat(parts);
  });
  const code = await new Promise<number | null>((resolve) => {
    child.on('close', resolve);
  });
  const [stdout, stderr, aux] = await Promise.all(streams);
  const from = { defaults, callEnv: options.env ?? {}, previous: options.state };
  return {
    code,
    stdout: stdout?.toString() ?? '',
    stderr: stderr?.toString() ?? '',
    parsed: parseShellState(aux ?? Buffer.alloc(0), from),
  };
}

async function stateAfter(shell: string, script: string, options?: Parameters<typeof run>[2]): Promise<ShellState> {
  const { parsed } = await run(shell, script, options);
  if (parsed.kind === 'none') throw new Error(parsed.reason);
  return parsed.state;
}

describe.each(['/bin/bash', '/bin/dash'].filter((shell) => existsSync(shell)))('a session of %s', (shell) => {
  it('carries directory, exported variables and umask, and nothing else', async () => {
    const state = await stateAfter(
      shell,
      'cd /usr; export A="x y" B; B=\'two\nlines\'; local_one=1; umask 027; unset PAGER',
    );
    expect(state).toEqual({
      cwd: '/usr',
      umask: 0o027,
      env: { A: 'x y', B: 'two\nlines', OLDPWD: '/' },
      unset: ['PAGER'],
    });
    const next = await run(shell, 'echo "$A|$B|$PWD|${PAGER-none}|${local_one-none}"', { state });
    expect(next.stdout).toBe('x y|two\nlines|/usr|none|none\n');
    expect(next.parsed).toEqual({ kind: 'state', state: { ...state, umask: 0o022 } });
  });

  it.each([
    ['exit 3', 3],
    ['set -e; false; cd /', 1],
    ['false', 1],
    ['no_such_command', 127],
    ['(exit 4)', 4],
    ['return 7', 7],
    ['set -x; exit 2', 2],
    ['trap "echo bye" EXIT; (exit 5)', 5],
    ['if', 2],
    ['exec >/dev/null 2>&1; exit 6', 6],
  ])('survives %j with its exit code', async (end, code) => {
    const ran = await run(shell, `cd /usr; export A=1\n${end}`);
    expect(ran.code).toBe(code);
    expect(ran.parsed).toMatchObject({ kind: 'state', state: { cwd: '/usr', env: { A: '1' } } });
    expect(ran.stderr).not.toContain('glovebox');
  });

  it.each(['kill -9 $$', 'exec true', 'trap "echo bye" EXIT; exit 0'])(
    'keeps the state before after %j, and says why',
    async (end) => {
      const { parsed } = await run(shell, `export A=1; ${end}`);
      expect(parsed).toMatchObject({ kind: 'none', reason: expect.any(String) });
    },
  );

  it('goes back to the directory before, and starts elsewhere when its own is gone', async () => {
    const state = await stateAfter(shell, 'cd /usr; cd /tmp');
    expect((await run(shell, 'cd - >/dev/null; pwd', { state })).stdout).toBe('/usr\n');
    const gone = await run(shell, 'pwd', { state: { ...state, cwd: '/no/such/directory' } });
    expect(gone).toMatchObject({
      code: 0,
      stdout: '/\n',
      stderr: expect.stringContaining('/no/such/directory is gone'),
    });
  });

  it("runs the script's own EXIT trap", async () => {
    expect((await run(shell, 'trap "echo bye" EXIT; echo hi')).stdout).toBe('hi\nbye\n');
  });

  it('shows neither its pipe nor the script to what the script runs', async () => {
    const { stdout } = await run(
      shell,
      'for fd in 3 9; do test -e /proc/self/fd/$fd && echo "$fd is open"; done; ls -l /proc/self/fd',
    );
    expect(stdout).not.toMatch(/is open|pipe:.*pipe:.*pipe:/s);
  });

  it('reports lines as they are in the script, and a plain $0', async () => {
    const { stdout, stderr } = await run(shell, '#!/bin/sh\necho $0 $#\nno_such_command');
    expect(stdout).toBe(`${shell.slice(5)} 0\n`);
    expect(stderr).toMatch(/(line )?3:/);
  });

  it('takes a script of a megabyte, quotes, here-documents and all', async () => {
    const script = `cat <<'END' | wc -c\n${'it\'s "quoted" $HOME \\ `x`\n'.repeat(40_000)}END\ncd /usr`;
    const ran = await run(shell, script);
    expect(ran.stdout.trim()).toBe(String(26 * 40_000));
    expect(ran.parsed).toMatchObject({ state: { cwd: '/usr' } });
  });

  it('does not need PATH, and does not trust what the script names cat', async () => {
    const state = await stateAfter(shell, 'cat() { echo fake; }; PATH=/nowhere; cd /usr');
    expect(state).toMatchObject({ cwd: '/usr', env: { PATH: '/nowhere' } });
  });

  it('does not carry what only this call was given, unless the script changed it', async () => {
    const env = { ONCE: '1', CHANGED: '1' };
    const state = await stateAfter(shell, 'CHANGED=2', { env });
    expect(state.env).toEqual({ CHANGED: '2' });
    const previous = { cwd: '/', umask: 0o022, env: { ONCE: 'before' }, unset: [] };
    expect((await stateAfter(shell, ':', { env, state: previous })).env).toMatchObject({ ONCE: 'before' });
  });

  it('keeps the state before when the new one is too large', async () => {
    const { parsed } = await run(shell, 'a=$(head -c 100000 /dev/zero | tr "\\0" x); export A=$a B=$a C=$a');
    expect(parsed).toMatchObject({ kind: 'none', reason: expect.stringContaining(String(shellStateMaxBytes)) });
  });
});

describe('a state that was written by somebody else', () => {
  it('is checked: whatever it is, what comes out is a state or a reason', () => {
    const part = fc.constantFrom(
      'glovebox-shell-1',
      '0022\n',
      '/usr\n',
      'A=1',
      'end',
      '',
      '=',
      'x',
      '__proto__=1',
      'B',
      '\n',
    );
    const none = { defaults, callEnv: {}, previous: undefined };
    fc.assert(
      fc.property(fc.array(fc.oneof(part, fc.string())), (parts) => {
        const parsed = parseShellState(Buffer.from(parts.join('\0')), none);
        if (parsed.kind === 'state') expect(parsed.state.cwd.startsWith('/')).toBe(true);
      }),
    );
    const forged = [
      'glovebox-shell-1',
      '0022\n',
      '/\n',
      '__proto__=1',
      'constructor=2',
      'BAD-NAME=1',
      '',
      'end',
      '',
    ].join('\0');
    const parsed = parseShellState(Buffer.from(forged), none);
    expect(parsed.kind === 'state' && Object.entries(parsed.state.env)).toEqual([
      ['__proto__', '1'],
      ['constructor', '2'],
    ]);
    expect(({} as Record<string, unknown>)['1']).toBeUndefined();
  });
});

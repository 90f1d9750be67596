import { describe, expect, test } from 'vitest';
import { containerBody, defaultLimits, type SandboxSpec } from './container-body.ts';
import { callEnvironment } from './environment.ts';
import { callTerms, encodeExec } from './exec-spec.ts';
import type { ExecSpec } from './spec.ts';

const spec: SandboxSpec = {
  id: 'i',
  image: 'sha256:0',
  runtime: 'runc',
  limits: defaultLimits,
  labels: { a: 'b' },
};

describe('the container of a sandbox', () => {
  test('writes to bounded file systems in memory and nowhere else', () => {
    const body = containerBody(spec, 'volume');
    expect(body.tmpfs.map((each) => each.target)).toEqual(['/workspace', '/tmp', '/home/agent', '/run']);
    expect(body.tmpfs.every((each) => each.sizeBytes > 0 && each.inodesMax > 0)).toBe(true);
    expect(body.tmpfs[0]).toMatchObject({ uid: 0, gid: 0, mode: 0o755, exec: true });
    expect(body.argv[0]).toBe('/.glovebox/supervisor');
    expect(body).toMatchObject({ env: [], hostname: 'glovebox', labels: { a: 'b' } });
    expect(body.volumes).toEqual([{ name: 'volume', target: '/.glovebox', kind: 'files' }]);
  });

  test('gets the workspace that its scopes ask for', () => {
    const body = containerBody({ ...spec, workspaceRoot: { owner: 'tool', mode: 0o1777 } }, 'volume');
    expect(body.tmpfs[0]).toMatchObject({ uid: 10_001, gid: 10_001, mode: 0o1777 });
  });

  test('has room on gVisor for the host threads behind its processes, which are bounded inside', () => {
    const body = containerBody({ ...spec, runtime: 'runsc', limits: { ...defaultLimits, pidsMax: 100 } }, 'volume');
    expect(body.argv.slice(-2)).toEqual(['--processes', '100']);
    expect(body.limits.pidsMax).toBe(3424);
    expect(containerBody(spec, 'volume').argv).not.toContain('--processes');
  });

  test('lets the tools listen on low ports only where a fence does', () => {
    expect(containerBody(spec, 'volume')).not.toHaveProperty('lowPorts');
    expect(containerBody({ ...spec, egress: true }, 'volume')).toHaveProperty('lowPorts', true);
  });

  test.each([
    ['memory that full file systems would use up', { memoryBytes: defaultLimits.workspaceBytes }],
    ['no processes', { pidsMax: 0 }],
    ['half a byte', { tmpBytes: 0.5 }],
    ['no number', { cpus: Number.NaN }],
  ])('is refused with %s', (_name, change) => {
    const wrong = { ...spec, limits: { ...defaultLimits, ...change } };
    expect(() => containerBody(wrong, 'volume')).toThrow(expect.objectContaining({ code: 'policy_unenforceable' }));
  });
});

describe('the environment of a command', () => {
  test('is quiet without a terminal and coloured with one', () => {
    const quiet = callEnvironment({});
    expect(quiet).toEqual(expect.arrayContaining(['TERM=dumb', 'NO_COLOR=1', 'CI=1', 'PAGER=cat', 'HOME=/home/agent']));
    const terminal = callEnvironment({ tty: { columns: 80, rows: 24 } });
    expect(terminal).toContain('TERM=xterm-256color');
    expect(terminal.some((each) => /^(NO_COLOR|CI|PAGER)=/.test(each))).toBe(false);
  });

  test("has nothing of the runner's, and the caller's values win", () => {
    process.env['GLOVEBOX_CANARY'] = 'leak';
    const names = callEnvironment({ env: { TERM: 'vt52', ODD: 'a=b\nc' } });
    expect(names).toEqual(expect.arrayContaining(['TERM=vt52', 'ODD=a=b\nc']));
    expect(names.join()).not.toContain('leak');
    expect(names.filter((each) => each.startsWith('TERM='))).toHaveLength(1);
  });
});

describe('what is sent for a command', () => {
  const encode = (exec: ExecSpec): Buffer => Buffer.concat(encodeExec(exec, callTerms(exec, 1000)));

  test('a script travels beside the arguments, in pieces of 64 KiB', () => {
    const exec = { command: { kind: 'script', script: 'x'.repeat(200_000) } } as const;
    const pieces = encodeExec(exec, callTerms(exec, 1000));
    expect(pieces.map((piece) => piece.length).slice(0, 3)).toEqual([65_536, 65_536, 65_536]);
    expect(Buffer.concat(pieces).includes('/dev/fd/9')).toBe(true);
  });

  test('a relative cwd is below the workspace', () => {
    expect(callTerms({ command: { kind: 'argv', argv: ['x'] }, cwd: 'a/../b' }, 1).cwd).toBe('/workspace/b');
    expect(callTerms({ command: { kind: 'argv', argv: ['x'] } }, 1).cwd).toBe('/workspace');
  });

  test.each<[string, ExecSpec, string]>([
    ['NUL in an argument', { command: { kind: 'argv', argv: ['a\0b'] } }, 'invalid_request'],
    ['no program', { command: { kind: 'argv', argv: [''] } }, 'invalid_request'],
    ['a name with "="', { command: { kind: 'argv', argv: ['a'] }, env: { 'A=B': '' } }, 'invalid_request'],
    ['a time that is none', { command: { kind: 'argv', argv: ['a'] }, killAfterMs: -1 }, 'invalid_request'],
    ['half a millisecond', { command: { kind: 'argv', argv: ['a'] }, graceMs: 0.5 }, 'invalid_request'],
    ['more than 8 MiB', { command: { kind: 'script', script: 'x'.repeat(9_000_000) } }, 'limit_exceeded'],
  ])('%s is refused', (_name, exec, code) => {
    expect(() => encode(exec)).toThrow(expect.objectContaining({ code }));
  });
});

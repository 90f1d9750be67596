import { describe, expect, it } from 'vitest';
import { ToolCall } from './tool-call.ts';

describe('a tool call', () => {
  it.each<[unknown, string]>([
    [{ tool: 'exec' }, 'neither script nor argv'],
    [{ tool: 'exec', script: 'x', argv: ['y'] }, 'both'],
    [{ tool: 'exec', argv: ['y'], session: 's' }, 'a session without a script'],
    [{ tool: 'exec', script: 'x', user: 'root' }, 'an unknown key'],
    [{ tool: 'exec', script: 'x', env: { 'A=B': '1' } }, 'a bad variable'],
    [{ tool: 'exec', script: 'x', killAfterMs: 0 }, 'no time'],
    [{ tool: 'read', path: 'a\0b' }, 'NUL'],
    [{ tool: 'read', path: 'a', range: { offset: 1, fromLine: 1 } }, 'bytes and lines'],
    [{ tool: 'write', path: 'a', content: { utf8: 'x', base64: 'eA==' } }, 'two contents'],
    [{ tool: 'write', path: 'a', content: { base64: '!' } }, 'no base64'],
    [{ tool: 'write', path: 'a', content: { utf8: '' }, ifMatch: 'md5:1' }, 'a bad digest'],
    [{ tool: 'write', path: 'a', content: { utf8: '' }, mode: 0o4755 }, 'setuid'],
    [{ tool: 'nope' }, 'an unknown tool'],
  ])('%j is refused: %s', (call) => {
    expect(ToolCall.safeParse(call).success).toBe(false);
  });

  it('says how bytes are written to whoever sends them otherwise', () => {
    const sent = ToolCall.safeParse({ tool: 'write', path: 'a', content: 'x' });
    expect(sent.error?.message).toContain('{\\"utf8\\": TEXT}');
  });

  it('fills in its defaults', () => {
    expect(ToolCall.parse({ tool: 'exec', script: 'x' })).toMatchObject({
      yieldMs: 10_000,
      killAfterMs: 120_000,
      maxReplyBytes: 30_000,
    });
    expect(ToolCall.parse({ tool: 'read', path: 'a', range: { toLine: 3 } })).toMatchObject({
      range: { fromLine: 1, toLine: 3 },
    });
  });
});

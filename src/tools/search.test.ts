import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../test/fixtures/memory-files.ts';
import { runTool } from './run-tool.ts';
import { ToolCall, type ToolCallInput } from './tool-call.ts';
import { ToolContext } from './tool-context.ts';
import type { ToolData, ToolResult } from './tool-result.ts';

const files = new MemoryFiles({
  'src/a.ts': 'one\ntwo needle\nthree\nfour\nfive needle needle\nsix',
  'src/b.js': 'NEEDLE\r\nneedle.\r\n',
  'src/bin.dat': Buffer.from('needle\0'),
  '.git/config': 'needle',
  'node_modules/x/index.js': 'needle',
  '.hidden/a.ts': 'x',
  'big.txt': Buffer.alloc(5_000_000, 'needle\n'),
});
const context = new ToolContext({ files, start: () => Promise.reject(new Error('no commands here')) });

async function run(call: ToolCallInput): Promise<ToolResult> {
  return await runTool(context, 'c1', ToolCall.parse(call));
}

async function matches(
  call: Omit<Extract<ToolCallInput, { tool: 'grep' }>, 'tool'>,
): Promise<Extract<ToolData, { kind: 'matches' }>> {
  const { data } = await run({ tool: 'grep', ...call });
  if (data?.kind !== 'matches') throw new Error('no matches in the answer');
  return data;
}

/** Letters in no order, the same each time: the worst case for an expression engine. */
function mixed(length: number, lineLength: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, seed = 1; at < length; at++) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    bytes[at] = at % lineLength === lineLength - 1 ? 0x0a : seed > 1_073_741_824 ? 0x61 : 0x62;
  }
  return bytes;
}

describe('grep', () => {
  it('finds each matching line once, and counts what it did not look into', async () => {
    const found = await matches({ pattern: 'needle' });
    expect(found.matches.map((m) => `${m.path}:${m.line}`)).toEqual(['src/a.ts:2', 'src/a.ts:5', 'src/b.js:2']);
    expect(found).toMatchObject({
      matchCount: 3,
      filesMatched: 2,
      binarySkipped: 1,
      largeSkipped: 1,
      truncated: false,
    });
  });

  it('gives the same lines for an expression as for plain text', async () => {
    expect((await matches({ pattern: 'needl[e]' })).matches).toEqual((await matches({ pattern: 'needle' })).matches);
  });

  it('takes a pattern literally when asked', async () => {
    expect((await matches({ pattern: 'needle.', literal: true })).matches).toMatchObject([
      { path: 'src/b.js', line: 2 },
    ]);
    expect((await matches({ pattern: '^NEEDLE$', caseInsensitive: true })).matches).toMatchObject([{ line: 1 }]);
  });

  it('shows lines around a match once, also where matches are near each other', async () => {
    const found = await matches({ pattern: 'needle', context: 2, glob: '*.ts' });
    expect(found.matches.map((m) => `${m.line}${m.match ? '*' : ''}`)).toEqual(['1', '2*', '3', '4', '5*', '6']);
  });

  it('stops at the asked number and says that there is more', async () => {
    expect(await matches({ pattern: 'needle', maxMatches: 2 })).toMatchObject({ matchCount: 2, truncated: true });
  });

  it('looks into pruned directories only when asked', async () => {
    const found = await matches({ pattern: 'needle', all: true });
    expect(found.matches.map((m) => m.path)).toContain('.git/config');
  });

  it('lets others work while it tries a pattern made to be slow, and comes to an end', async () => {
    const slow = new MemoryFiles({
      'one-line': mixed(4_000_000, Infinity),
      lines: mixed(300_000, 120),
    });
    const alone = new ToolContext({ files: slow, start: () => Promise.reject(new Error('no commands here')) });
    let longestMs = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longestMs = Math.max(longestMs, performance.now() - last);
      last = performance.now();
    }, 5);
    const call = ToolCall.parse({ tool: 'grep', pattern: 'a.{40}[xyz]|[ab]*a[ab]{20}[xyz]' });
    const { data } = await runTool(alone, 'c', call);
    clearInterval(timer);
    expect(data).toMatchObject({ matchCount: 0, filesSearched: 2 });
    expect(longestMs).toBeLessThan(1000);
  });

  it('looks into a single file', async () => {
    expect((await matches({ pattern: 'two', path: 'src/a.ts' })).matches).toMatchObject([
      { path: 'src/a.ts', line: 2 },
    ]);
  });

  it('answers a pattern it cannot compile, and a path that is not there, with an error for the agent', async () => {
    expect((await run({ tool: 'grep', pattern: '(a' })).error).toMatchObject({ code: 'invalid_pattern' });
    expect((await run({ tool: 'grep', pattern: 'a(?=b)' })).error).toMatchObject({ code: 'invalid_pattern' });
    expect((await run({ tool: 'grep', pattern: 'a', path: 'nope' })).error).toMatchObject({ code: 'not_found' });
  });
});

describe('list and glob', () => {
  const names = async (call: ToolCallInput): Promise<string[]> => {
    const { data } = await run(call);
    if (data?.kind !== 'entries') throw new Error('no entries in the answer');
    return data.entries.map((entry) => entry.path);
  };

  it('list shows one level, pruned directories too, as they are there', async () => {
    expect(await names({ tool: 'list' })).toEqual(['.git', '.hidden', 'big.txt', 'node_modules', 'src']);
    expect(await names({ tool: 'list', depth: 2 })).not.toContain('.git/config');
  });

  it('glob finds names in any directory, relative to where it looks', async () => {
    expect(await names({ tool: 'glob', pattern: '*.ts' })).toEqual(['.hidden/a.ts', 'src/a.ts']);
    expect(await names({ tool: 'glob', pattern: 'a.ts', path: 'src' })).toEqual(['src/a.ts']);
  });

  it('says when there is more than asked for', async () => {
    const { data } = await run({ tool: 'glob', pattern: '**', maxMatches: 2 });
    expect(data).toMatchObject({ kind: 'entries', truncated: true });
  });

  it('refuses a file as the directory', async () => {
    expect((await run({ tool: 'list', path: 'big.txt' })).error).toMatchObject({ code: 'not_directory' });
  });
});

import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { loadPolicyFor } from './repository-layer.ts';
import type { TaskRequest } from './restriction.ts';

const head = (name: string): string => `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\n`;
const minimal = 'images: [base]\nfiles: {read: ["**"]}\n';

describe("a repository's own policy", () => {
  const operator = `${head('operator')}${minimal}egress: {use: [p], profiles: {p: [{id: a, host: [a.example]}], q: [{id: b, host: [b.example]}]}}\n`;
  const silent = `${head('operator')}${minimal}`;

  async function openWith(above: string, below: string, task: TaskRequest = {}): Promise<readonly string[] | string> {
    const root = await mkdtemp(join(tmpdir(), 'repository-'));
    try {
      const git = (...args: string[]): unknown =>
        execFileSync('git', ['-C', root, '-c', 'user.name=x', '-c', 'user.email=x@x.example', ...args], {
          stdio: 'ignore',
        });
      await mkdir(join(root, '.glovebox'));
      await writeFile(join(root, 'operator.yaml'), above);
      await writeFile(join(root, '.glovebox/policy.yaml'), head('repo') + below);
      git('init', '-q');
      git('add', '-A');
      git('commit', '-qm', 'x');
      return (await loadPolicyFor(join(root, 'operator.yaml'), root, task)).policy.egress.profiles;
    } catch (error) {
      if (isRunnerError(error)) return error.message;
      throw error;
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  }

  const opening: readonly (readonly [string, string, string, RegExp])[] = [
    [
      'destinations',
      silent,
      'egress: {use: [x], profiles: {x: [{id: x, host: [x.example]}]}}\n',
      /egress\.profiles: is said by whoever opens the run/,
    ],
    [
      'upstreams',
      silent,
      'egress: {use: [x], upstreams: [{id: x, host: x.internal, port: 1, to: "127.0.0.1:22"}]}\n',
      /egress\.upstreams: is said/,
    ],
    ['secrets', silent, 'credentials: {x: {source: "env:HOME", host: x.example}}\n', /credentials: is said/],
    ['directories of the machine', silent, 'inputs: [{source: /home, target: /inputs/home}]\n', /inputs\.0: is said/],
    [
      'what is defined and not used',
      operator.replace('use: [p], ', ''),
      'egress: {use: [q]}\n',
      /egress\.use\.0: "q" is said/,
    ],
    [
      'it to a class of its own',
      operator.replace('use: [p], ', ''),
      'classes: {c: {egress: [q]}}\n',
      /classes\.c\.egress\.0: "q" is said/,
    ],
    [
      'it to setup',
      operator,
      'environment: {image: base, setup: [[x]], egress: [p]}\n',
      /environment\.egress: is said/,
    ],
    [
      'more connections than the default',
      operator,
      'egress: {max_connections: 200}\n',
      /200 is more than the default, 64/,
    ],
    [
      'a way to observe',
      operator.replace('egress: {', 'egress: {observe: allowed, '),
      'egress: {mode: observe}\n',
      /egress\.mode: is said/,
    ],
  ];
  test.each(opening)('opens nothing: %s', async (_, above, below, message) => {
    expect(await openWith(above, below)).toMatch(message);
  });

  test('can take away', async () => {
    expect(await openWith(operator, 'limits: {pids: 100}\n')).toEqual(['p']);
    expect(await openWith(operator, 'egress: {use: [], max_connections: 2, mode: enforce}\n')).toEqual([]);
    expect(await openWith(operator, 'classes: {c: {egress: [p]}, d: {}}\n', { taskClass: 'c' })).toEqual(['p']);
    expect(await openWith(operator, 'classes: {c: {egress: [p]}, d: {}}\n', { taskClass: 'd' })).toEqual([]);
  });
});

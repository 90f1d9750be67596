import { describe, expect, test } from 'vitest';
import { compileRules, decide, type Decision, type Question } from './decide.ts';
import { loadPolicy, parsePolicy, type LoadedPolicy } from '../policy.ts';

type Call = Omit<Extract<Question, { kind: 'call' }>, 'kind'>;
type Case = readonly [policy: string, call: Call, rule: string | undefined];

function ask({ policy }: LoadedPolicy, call: Call): Decision {
  return decide(compileRules(policy), { kind: 'call', ...call });
}

describe('the shipped policies decide', () => {
  const cases: readonly Case[] = [
    ['default', { tool: 'exec' }, undefined],
    ['default', { tool: 'write', writes: ['src/a.ts'] }, undefined],
    ['default', { tool: 'write', writes: ['/workspace/src/a.ts'] }, undefined],
    ['default', { tool: 'write', writes: ['node_modules/x/y.js'] }, undefined],
    ['default', { tool: 'write', writes: ['/tmp/x'] }, undefined],
    ['default', { tool: 'write', writes: ['.git/hooks/pre-commit'] }, 'files.deny'],
    ['default', { tool: 'write', writes: ['sub/.git/config'] }, 'files.deny'],
    ['default', { tool: 'write', writes: ['x/../.env'] }, 'files.deny'],
    ['default', { tool: 'read', reads: ['.env'] }, 'files.deny'],
    ['default', { tool: 'read', reads: ['config/.env.example'] }, undefined],
    ['default', { tool: 'read', reads: ['/workspace/deploy/id_ed25519'] }, 'files.deny'],
    ['default', { tool: 'read', reads: ['/etc/passwd'] }, undefined],
    ['default', { tool: 'list', reads: ['.'] }, undefined],
    ['docs-only', { tool: 'write', writes: ['docs/new/page.md'] }, undefined],
    ['docs-only', { tool: 'write', writes: ['README.md'] }, undefined],
    ['docs-only', { tool: 'mkdir', writes: ['docs/new'] }, undefined],
    ['docs-only', { tool: 'edit', writes: ['src/main.ts'] }, 'files.write'],
    ['docs-only', { tool: 'edit', writes: ['docs/../src/main.ts'] }, 'files.write'],
    ['docs-only', { tool: 'edit', writes: ['CLAUDE.md'] }, 'files.write'],
    ['docs-only', { tool: 'edit', writes: ['.github/workflows/README.md'] }, 'files.write'],
    ['docs-only', { tool: 'apply_patch', writes: ['README.md', 'package.json'] }, 'files.write'],
    ['docs-only', { tool: 'move', writes: ['README.md', 'src/x.md'] }, undefined],
    ['docs-only', { tool: 'move', writes: ['README.md', 'src/x.ts'] }, 'files.write'],
    ['docs-only', { tool: 'upload', writes: ['docs'] }, undefined],
    ['docs-only', { tool: 'remove', writes: ['src'] }, 'files.write'],
    ['locked-down', { tool: 'exec' }, undefined],
    ['locked-down', { tool: 'read', reads: ['src/a.ts'] }, undefined],
    ['locked-down', { tool: 'write', writes: ['/tmp/x'] }, 'tools.allow'],
    ['locked-down', { tool: 'upload', writes: ['.'] }, 'tools.allow'],
  ];
  test.each(cases)('%s: %j -> %s', async (name, call, rule) => {
    const decision = ask(await loadPolicy(name), call);
    expect(decision.effect === 'deny' ? decision.rule : undefined).toBe(rule);
  });
});

describe('a denial', () => {
  const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: narrow\nimages: [base]\n';

  test('says what, why, and what may be done instead', () => {
    const policy = parsePolicy(`${head}files: {read: ["**"], write: ["src/**"], scratch: ["out/**"]}\n`, 'p');
    expect(ask(policy, { tool: 'write', writes: ['package.json'] })).toMatchObject({
      effect: 'deny',
      rule: 'files.write',
      reason: '"package.json" is outside what the policy "narrow" lets you change',
      hint: 'You may change: src/**, out/**; and anything under /tmp.',
    });
    expect(ask(policy, { tool: 'write', writes: ['\u001b[2J\n'] })).toMatchObject({
      reason: String.raw`"\u001b[2J\n" is outside what the policy "narrow" lets you change`,
    });
  });

  test('of a long path stays short', () => {
    const policy = parsePolicy(`${head}files: {read: ["**"]}\n`, 'p');
    const decision = ask(policy, { tool: 'write', writes: ['x'.repeat(100_000)] });
    expect(decision.reason.length).toBeLessThan(400);
    expect(decision).toMatchObject({ hint: 'You may change: nothing in the workspace; and anything under /tmp.' });
  });

  test('is not what directories above a writable file get', () => {
    const policy = parsePolicy(`${head}files: {read: ["**"], write: ["a/b/*.md"]}\n`, 'p');
    expect(ask(policy, { tool: 'mkdir', writes: ['a/b'] }).effect).toBe('allow');
    expect(ask(policy, { tool: 'mkdir', writes: ['a/c'] }).effect).toBe('deny');
  });
});

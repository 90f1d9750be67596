import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Approver } from '../approvals/approval.ts';
import { Approvals } from '../approvals/approvals.ts';
import { Budget } from '../budget/budget.ts';
import { attached, entriesOf, intended, opened } from '../journal/story.fixture.ts';
import { newId } from '../ids.ts';
import { parsePolicy } from '../policy/policy.ts';
import { ToolCall } from '../tools/tool-call.ts';
import { budgetLimits, RunGate } from './gate.ts';
import { RunStory } from './story.ts';
import { ContextStory } from '../context/context-story.ts';

const text = `apiVersion: glovebox/v1
kind: Policy
name: t
images: [base]
files: {read: ["**"], write: ["src/**"], write_ask: ["package.json"]}
approvals:
  categories: {schema: {timeout: 1s}}
  triggers: [{category: schema, when: {write_path: ["src/db/**"]}}]
commands:
  - {id: push, match: {program: git, subcommand: push}, effect: require_approval, category: schema, tags: [publish], tests: {match: [git push]}}
  - {id: all, match: {program: "*"}, effect: allow, tests: {match: [ls]}}
context: {fresh_before: [publish, schema, write_ask], max_age_calls: 2}
budget: {max_approval_requests: 50}
`;

let directory: string;
let asked: number;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'glovebox-freshness-'));
  asked = 0;
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function gate(policyText = text): Promise<{ gate: RunGate; budget: Budget }> {
  const policy = parsePolicy(policyText, 'p');
  const run = newId();
  const approver: Approver = async () => {
    asked += 1;
    return [{ approve: true, by: 'ada' }];
  };
  const budget = new Budget(budgetLimits(policy.policy));
  const approvals = await Approvals.open({ run, directory, approver, record: async () => undefined });
  return { gate: new RunGate({ run, policy, budget, approvals, base: 'b', onRisk: async () => undefined }), budget };
}

const exec = (script: string): ToolCall => ToolCall.parse({ tool: 'exec', script });
const write = (path: string): ToolCall => ToolCall.parse({ tool: 'write', path, content: { utf8: '' } });

describe('a call that needs a fresh context snapshot', () => {
  test('is denied with a hint until one is attached, costs a denial, and nobody is asked', async () => {
    const { gate: open, budget } = await gate();
    for (const [id, call] of [['1', exec('git push')] as const, ['2', write('src/db/a')] as const])
      expect(await open.admit(id, call)).toMatchObject({
        kind: 'refused',
        rule: 'context.fresh_before',
        reason: /no context snapshot is attached/,
        hint: /Attach a context snapshot/,
      });
    expect(budget.remaining().denied).toBe(6);
    expect(asked).toBe(0);
    expect((await open.admit('3', exec('ls'))).kind, 'others need none').toBe('admitted');
    open.contextAttached();
    expect((await open.admit('1', exec('git push'))).kind).toBe('admitted');
    expect(asked).toBe(1);
    expect((await open.admit('2', write('src/db/a'))).kind).toBe('admitted');
  });

  test('is denied again when so many calls were let in with it, of whatever kind; denied ones do not count', async () => {
    const { gate: open } = await gate();
    open.contextAttached();
    await open.admit('1', exec('ls'));
    await open.admit('2', ToolCall.parse({ tool: 'write', path: 'elsewhere', content: { utf8: '' } }));
    expect((await open.admit('3', exec('git push'))).kind).toBe('admitted');
    expect(await open.admit('4', exec('git push'))).toMatchObject({
      rule: 'context.fresh_before',
      reason: /is 2 calls old \(2 are possible\)/,
    });
    open.contextAttached();
    expect((await open.admit('5', exec('git push'))).kind).toBe('admitted');
  });

  test('is as fresh as the journal says where the run goes on after its runner died', async () => {
    const storyOf = (...drafts: Parameters<typeof entriesOf>[0]): ContextStory => {
      const story = new ContextStory();
      for (const entry of entriesOf([opened, ...drafts])) story.push(entry);
      return story;
    };
    const goesOn = async (story: ContextStory): Promise<string> => {
      const { gate: open } = await gate();
      open.goOn(story);
      return (await open.admit('1', exec('git push'))).kind;
    };
    expect(await goesOn(storyOf(intended('a')))).toBe('refused');
    expect(await goesOn(storyOf(attached(1), intended('a')))).toBe('admitted');
    expect(await goesOn(storyOf(attached(1), intended('a'), intended('b')))).toBe('refused');
    expect(await goesOn(storyOf(attached(1), intended('a'), intended('b'), attached(2)))).toBe('admitted');
  });

  test('stays fresh where the policy says no age', async () => {
    const { gate: open } = await gate(text.replace(', max_age_calls: 2', ''));
    open.contextAttached();
    for (let n = 0; n < 20; n++) {
      const push = await open.admit(`${n}`, exec('git push'));
      expect(push.kind).toBe('admitted');
      if (push.kind === 'admitted') push.release();
    }
  });

  test('is refused where freshness cannot be judged, and the gate says that it is broken', async () => {
    const { gate: open } = await gate();
    Object.defineProperty(open.policy, 'context', {
      get: () => {
        throw new Error('evaluator');
      },
    });
    open.contextAttached();
    for (const id of ['1', '2'])
      expect(await open.admit(id, exec('ls'))).toMatchObject({ rule: 'gate.context', reason: /is broken/ });
  });
});

test('a resumed run knows what it has attached, and who works', () => {
  const story = new RunStory();
  for (const entry of entriesOf([opened, attached(1, { model: 'm-1' }), intended('a')])) story.context.push(entry);
  expect(story.context).toMatchObject({ callsSince: 1, worker: { model: 'm-1' } });
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Approver } from '../approvals/approval.ts';
import { Approvals } from '../approvals/approvals.ts';
import { Budget } from '../budget/budget.ts';
import { newId } from '../ids.ts';
import { parsePolicy, type LoadedPolicy } from '../policy/policy.ts';
import { budgetLimits, RunGate, type GateParts } from './gate.ts';
import { ToolCall } from '../tools/tool-call.ts';

const head =
  'apiVersion: glovebox/v1\nkind: Policy\nname: t\nimages: [base]\nfiles: {read: ["**"], write: ["src/**"]}\n';
const asking = `${head}approvals: {categories: {dependency: {timeout: 1s}, budget_extension: {timeout: 1s}}}
commands:
  - {id: install, match: {program: npm}, effect: require_approval, category: dependency, tags: [dependency], set_env: {CI: "1"}, tests: {match: [npm ci]}}
  - {id: all, match: {program: "*"}, effect: allow, tests: {match: [ls]}}
budget: {max_actions_per_run: 2, max_actions_by_tag: {dependency: 1}, max_approval_requests: 3}
`;

let directory: string;
let raised: string[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'glovebox-gate-'));
  raised = [];
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function gate(
  policy: LoadedPolicy,
  approver?: Approver,
  record: () => Promise<void> = async () => undefined,
): Promise<{ gate: RunGate; budget: Budget }> {
  const run = newId();
  const budget = new Budget(budgetLimits(policy.policy));
  const approvals = await Approvals.open({ run, directory, approver, record });
  // The policy that is handed over is the one that holds at the higher risk.
  const onRisk: GateParts['onRisk'] = async (from, _to, _by, { risk }) => void raised.push(`${from} ${risk}`);
  return { gate: new RunGate({ run, policy, budget, approvals, base: 'b', onRisk }), budget };
}

const exec = (script: string): ToolCall => ToolCall.parse({ tool: 'exec', script });
const approve: Approver = async () => [{ approve: true, by: 'ada' }];

describe('the gate of a run', () => {
  test('lets through what the policy allows, with what its rules give', async () => {
    const { gate: open } = await gate(parsePolicy(asking, 'p'), approve);
    expect(await open.admit('1', exec('ls'))).toMatchObject({ kind: 'admitted', number: 1, setEnv: {} });
    expect(await open.admit('2', exec('npm ci'))).toMatchObject({ kind: 'admitted', number: 2, setEnv: { CI: '1' } });
  });

  test('asks for what has to be approved, and refuses it where nobody can be asked', async () => {
    const { gate: open, budget } = await gate(parsePolicy(asking, 'p'));
    expect(await open.admit('1', exec('npm ci'))).toMatchObject({
      kind: 'refused',
      rule: 'approvals.dependency',
      reason: 'the approval (dependency) was denied: there is nobody to ask here',
    });
    expect(budget.remaining()).toMatchObject({ calls: 2, denied: 7, approvals: 2 });
  });

  test('counts tags, and does not ask for what could not be let in', async () => {
    let asked = 0;
    const { gate: open } = await gate(parsePolicy(asking, 'p'), async (request, signal) => {
      asked += 1;
      return approve(request, signal);
    });
    expect((await open.admit('1', exec('npm ci'))).kind).toBe('admitted');
    expect(await open.admit('2', exec('npm ci'))).toMatchObject({ rule: 'budget.max_actions_by_tag.dependency' });
    expect(asked).toBe(1);
  });

  test('asks once for more calls when all are used', async () => {
    const { gate: open } = await gate(parsePolicy(asking, 'p'), approve);
    for (const id of ['1', '2', '3', '4']) expect((await open.admit(id, exec('ls'))).kind, id).toBe('admitted');
    expect(await open.admit('5', exec('ls'))).toMatchObject({ kind: 'refused', rule: 'budget.max_actions_per_run' });
  });

  test('lets exactly 50 of 50 through under 16 callers at a time, and never the 51st', async () => {
    const { gate: open } = await gate(parsePolicy(`${head}budget: {max_parallel_actions: 16}\n`, 'p'));
    let executed = 0;
    const caller = async (name: number): Promise<void> => {
      for (let n = 0; n < 10; n++) {
        const slot = await open.admit(`${name}-${n}`, exec('ls'));
        if (slot.kind !== 'admitted') continue;
        executed += 1;
        await Promise.resolve();
        slot.release();
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, name) => caller(name)));
    expect(executed).toBe(50);
    expect(await open.admit('51', exec('ls'))).toMatchObject({ rule: 'budget.max_actions_per_run' });
  });
});

describe('the risk of a run', () => {
  const risky = `${head}risk:
  levels: {high: {budget: {max_actions_per_run: 2}}, critical: {runtime: runsc}}
  escalators:
    - {id: r-a, when: {write_path: ["src/auth/**"]}, to: high}
    - {id: r-p, when: {write_path: ["src/prod/**"]}, to: critical}
`;
  const write = (path: string): ToolCall => ToolCall.parse({ tool: 'write', path, content: { utf8: '' } });

  test('rises before the call that raises it, takes away what the higher risk does not give, and never falls', async () => {
    const { gate: open, budget } = await gate(parsePolicy(risky, 'p'));
    expect((await open.admit('1', write('src/auth/x'))).kind).toBe('admitted');
    expect(raised).toEqual(['low high']);
    expect(open.rules.policy.risk).toBe('high');
    expect(budget.remaining().calls).toBe(1);
    expect((await open.admit('2', write('src/x'))).kind).toBe('admitted');
    expect(open.rules.policy.risk).toBe('high');
    expect(raised).toEqual(['low high']);
  });

  test('does not rise where the sandbox is not what the higher risk asks for: the call is refused', async () => {
    const { gate: open } = await gate(parsePolicy(risky, 'p'));
    expect(await open.admit('1', write('src/prod/x'))).toMatchObject({
      kind: 'refused',
      rule: 'risk.levels.critical',
      reason: 'it would raise the risk of the run from low to critical, which is to run under runsc',
    });
  });
});

describe('a gate that breaks refuses all, and says that it is broken', () => {
  const passes = async (open: RunGate, call: ToolCall): Promise<void> => {
    for (let n = 0; n < 20; n++)
      expect(await open.admit(`${n}`, call)).toMatchObject({ kind: 'refused', rule: /^gate\./, reason: /is broken/ });
  };

  test('the policy cannot be evaluated', async () => {
    const policy = parsePolicy(head, 'p');
    const { gate: open } = await gate(policy);
    const tools = {
      get allow(): readonly string[] {
        throw new Error('evaluator');
      },
    };
    Object.defineProperty(open.rules.policy, 'tools', { value: tools });
    await passes(open, exec('ls'));
  });

  test('nobody can be asked because asking fails', async () => {
    const { gate: open } = await gate(
      parsePolicy(
        asking.replace('max_approval_requests: 3', 'max_approval_requests: 100, max_denied_actions: 100'),
        'p',
      ),
      () => {
        throw new Error('pager');
      },
    );
    await passes(open, exec('npm ci'));
  });

  test('an approval cannot be recorded', async () => {
    const many = asking.replace('max_approval_requests: 3', 'max_approval_requests: 100');
    const { gate: open } = await gate(parsePolicy(many, 'p'), approve, () => Promise.reject(new Error('disk full')));
    await passes(open, exec('npm ci'));
  });

  test('a higher risk cannot be recorded', async () => {
    const policy = parsePolicy(`${head}risk: {escalators: [{id: r, when: {write_path: ["src/**"]}, to: high}]}\n`, 'p');
    const run = newId();
    const approvals = await Approvals.open({ run, directory, approver: approve, record: async () => undefined });
    const onRisk = (): Promise<never> => Promise.reject(new Error('journal'));
    const budget = new Budget(budgetLimits(policy.policy));
    const open = new RunGate({ run, policy, budget, approvals, base: 'b', onRisk });
    await passes(open, ToolCall.parse({ tool: 'write', path: 'src/x', content: { utf8: '' } }));
  });
});

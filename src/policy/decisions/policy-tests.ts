import { compileRules, decide, type Decision, type Question } from './decide.ts';
import { effectivePolicy } from '../layers/effective.ts';
import type { EgressRequest } from './egress-rules.ts';
import type { Policy } from '../layers/effective-policy.ts';
import type { PolicyTest } from '../language/schema.ts';
import type { SourceFile } from '../language/source-file.ts';

export interface TestResult {
  readonly name: string;
  readonly place: string;
  /** What came out differently; empty: the test passed. */
  readonly differences: readonly string[];
}

/** The tests of the last file, under all layers. */
export function runPolicyTests(chain: readonly SourceFile[]): readonly TestResult[] {
  const found = chain.at(-1);
  const known = new Map<string, ReturnType<typeof compileRules>>();
  const rulesFor = (given: PolicyTest['given']): ReturnType<typeof compileRules> => {
    const intent = { summary: 'test', source: given.source, risk_tags: given.risk_tags };
    const key = JSON.stringify([given.class, intent]);
    const rules = known.get(key) ?? compileRules(effectivePolicy(chain, { taskClass: given.class, intent }).policy);
    known.set(key, rules);
    return rules;
  };
  return (found?.file.tests ?? []).map((test, at) => ({
    name: test.name,
    place: found?.placeOf(['tests', at]) ?? '',
    differences: differencesOf(test, rulesFor),
  }));
}

export function failedTests(chain: readonly SourceFile[]): readonly string[] {
  return runPolicyTests(chain)
    .filter(({ differences }) => differences.length > 0)
    .map(
      ({ place, name, differences }) => `${place}: the test ${JSON.stringify(name)} fails: ${differences.join(', ')}`,
    );
}

function differencesOf(test: PolicyTest, rulesFor: (given: PolicyTest['given']) => ReturnType<typeof compileRules>) {
  const { given, expect } = test;
  const question = questionOf(given);
  if (question === undefined) return [`${JSON.stringify(given.url)} is no http, https or tcp URL`];
  const rules = rulesFor(given);
  const found = decide(rules, question);
  const facts = { effect: found.effect, rule: found.rule, risk: found.risk };
  const differences = (['effect', 'rule', 'risk'] as const).flatMap((key) => {
    const wanted = expect[key];
    return wanted === undefined || wanted === facts[key] ? [] : [`${key} is ${facts[key]}, not ${wanted}`];
  });
  return [...differences, ...approvalDifferences(expect, found, rules.policy)];
}

function approvalDifferences(expect: PolicyTest['expect'], found: Decision, policy: Policy): readonly string[] {
  const names = found.approvals.map(({ category }) => category);
  const { category, quorum } = expect;
  if (category === undefined) return [];
  if (!names.includes(category)) return [`the approvals are ${names.join(', ') || 'none'}, without ${category}`];
  const people = policy.approvals.categories[category]?.quorum ?? 1;
  return quorum === undefined || quorum === people ? [] : [`the quorum of ${category} is ${people}, not ${quorum}`];
}

/** A question as tests and `policy why` put it; undefined where a URL is none. */
export function questionOf(given: Omit<PolicyTest['given'], 'class'>): Question | undefined {
  if (given.read !== undefined) return { kind: 'call', tool: 'read', reads: [given.read] };
  if (given.write !== undefined) return { kind: 'call', tool: 'write', writes: [given.write] };
  if (given.command !== undefined) return { kind: 'call', tool: 'exec', command: { script: given.command } };
  if (given.tool !== undefined) return { kind: 'call', tool: given.tool };
  const request = parseEgressRequest(given.url ?? '');
  return request === undefined ? undefined : { kind: 'egress', ...request };
}

/** `GET https://example.org/x`, the URL alone, or `tcp://host:port`; undefined where it is none. */
function parseEgressRequest(text: string): EgressRequest | undefined {
  const [, method = 'GET', url = ''] = /^(?:([A-Z]{3,10})\s+)?(\S+)$/.exec(text.trim()) ?? [];
  return /^(https?|tcp):\/\/[^/]/i.test(url) ? { method, url } : undefined;
}

import { compileRules, decide, type Question } from '../src/policy/decisions/decide.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { lessIsBetter, median, type Row } from './measure.ts';

const rulesInPolicy = 500;
const perRound = 500;
const rounds = 20;

/** One decision against 500 rules for commands, or a path against a list of 100 globs; no engine, no peer. */
export async function decideRow(): Promise<readonly Row[]> {
  const rules = compileRules(parsePolicy(policyText(), 'bench').policy);
  const questions: readonly Question[] = [
    { kind: 'call', tool: 'exec', command: { argv: ['tool-499', 'push', 'origin'] } },
    { kind: 'call', tool: 'exec', command: { script: 'cd x && env A=1 sudo tool-250 -C . push | tail -5' } },
    { kind: 'call', tool: 'write', writes: ['packages/web/src/deep/file.ts'] },
    { kind: 'call', tool: 'read', reads: ['README.md'] },
  ];
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    for (let n = 0; n < perRound; n++) for (const question of questions) decide(rules, question);
    times.push(((performance.now() - started) * 1000) / (perRound * questions.length));
  }
  return [lessIsBetter('decide', 'us', { ours: median(times), peer: null }, null, { bound: 50 })];
}

function policyText(): string {
  const commands = Array.from(
    { length: rulesInPolicy },
    (_, n) =>
      `  - {id: r${n}, match: {program: tool-${n}, subcommand: push}, effect: deny, tests: {match: [tool-${n} push]}}`,
  );
  const globs = Array.from({ length: 100 }, (_, n) => `"packages/p${n}/**/*.ts"`);
  return `apiVersion: glovebox/v1
kind: Policy
name: bench
images: [base]
files: { read: ["**"], write: ["packages/*/src/**", ${globs.join(', ')}], deny: ["**/.env", "**/*.pem"] }
commands:
${commands.join('\n')}
  - {id: rest, match: {program: "*"}, effect: allow, tests: {match: [ls]}}
`;
}

import type { Command } from 'commander';
import pc from 'picocolors';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { compileRules, decide, type Decision } from '../../policy/decisions/decide.ts';
import { effectivePolicy } from '../../policy/layers/effective.ts';
import { explainPolicy } from '../../policy/texts/explain.ts';
import { lintPolicy } from '../../policy/texts/lint.ts';
import { questionOf, runPolicyTests } from '../../policy/decisions/policy-tests.ts';
import { classesOf, compileOptions, loadChain, policyFor, type CompileOptions } from '../../policy/policy.ts';
import { decisionDiff, reachDiff } from '../../policy/texts/reach-diff.ts';
import { policyJsonSchema } from '../../policy/language/reference-page.ts';
import type { SourceFile } from '../../policy/language/source-file.ts';
import { decisionText, diffText, explainText } from '../../policy/texts/texts.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { print, printJson } from '../terminal.ts';

interface Options {
  readonly class?: string;
  readonly json?: boolean;
}

interface WhyOptions extends Options {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly command?: boolean;
  readonly url?: boolean;
  readonly tool?: boolean;
}

/** For the people who write policies. Nothing here opens a run or needs an engine. */
export function policyCommand(program: Command, _context: CliContext): void {
  const policy = program.command('policy').description('check, explain, question and compare policies; opens nothing');
  const sub = (name: string, description: string): Command =>
    policy.command(name).description(description).option('--json', 'as JSON');
  const withClass = (command: Command): Command =>
    command.option('-c, --class <name>', 'task class, where the policy has classes');

  sub('validate', 'whether a policy loads, with all its layers, examples and tests')
    .argument('<policy>', 'a file, or the name of a shipped policy')
    .action(async (name: string, options: Options) => validate(name, options));
  sub('lint', 'what loads and yet cannot be meant: never matching, shadowed, ambiguous, over-broad, untested')
    .argument('<policy>')
    .action(async (name: string, options: Options) => lint(name, options));
  sub('test', "run the policy's own tests")
    .argument('<policy>')
    .action(async (name: string, options: Options) => test(name, options));
  withClass(sub('explain', 'the effective policy, with the layer and the line that decided each part'))
    .argument('<policy>')
    .action(async (name: string, options: Options) => explain(name, options));
  withClass(
    sub('why', 'what is decided of a path, a command or a URL, by which rule of which layer, and what would allow it'),
  )
    .argument('<policy>')
    .argument('<what...>', 'a path (with -r or -w), a URL, a tool, or after -- a command line')
    .option('-w, --write', 'a path that is changed')
    .option('-r, --read', 'a path that is read')
    .option('-x, --command', 'a command line (the default)')
    .option('-u, --url', 'a URL, a method may be before it')
    .option('-t, --tool', 'a tool')
    .action(async (name: string, what: string[], options: WhyOptions) => why(name, what.join(' '), options));
  withClass(sub('diff', 'two policies, in words of reach: what becomes possible, what stops'))
    .argument('<before>')
    .argument('<after>')
    .action(async (before: string, after: string, options: Options) => diff(before, after, options));
  policy
    .command('schema')
    .description('the JSON Schema of policy files, for editors')
    .option('--json', 'which it is anyway')
    .action(() => print(JSON.stringify(policyJsonSchema(), undefined, 2)));
}

async function validate(name: string, options: Options): Promise<void> {
  const chain = await loadChain(name);
  const classes = classesOf(chain);
  const { registries } = await compileOptions(chain);
  const digests = (classes.length === 0 ? [undefined] : classes).map((taskClass) => {
    const { policy, digest } = effectivePolicy(chain, { taskClass }, registries);
    return { class: taskClass ?? null, risk: policy.risk, digest };
  });
  const layers = chain.map(({ file, source, digest }) => ({ name: file.name, source, digest }));
  if (options.json === true) return printJson({ valid: true, layers, effective: digests });
  for (const layer of layers) print(`${pc.green('loads')} ${layer.name} (${layer.source}) ${pc.dim(layer.digest)}`);
  for (const { class: taskClass, risk, digest } of digests)
    print(`  ${taskClass === null ? 'effective' : `class ${taskClass}`}, risk ${risk}: ${pc.dim(digest)}`);
}

async function lint(name: string, options: Options): Promise<void> {
  const findings = lintPolicy(await loadChain(name));
  if (options.json === true) printJson({ findings });
  else if (findings.length === 0) print('nothing found');
  else
    for (const { kind, place, key, message } of findings)
      print(`${place}: ${pc.yellow(kind)}: ${key}: ${printable(message)}`);
  if (findings.length > 0) throw new Exit(exitCodes.failed);
}

/** Loading runs the tests too; here they are told one by one, also when one fails. */
async function test(name: string, options: Options): Promise<void> {
  const results = runPolicyTests(await loadChain(name, { withoutTests: true }));
  const failed = results.filter(({ differences }) => differences.length > 0);
  if (options.json === true) printJson({ tests: results, failed: failed.length });
  else {
    for (const { name: title, place, differences } of results) {
      if (differences.length === 0) print(`${pc.green('ok')}   ${title}`);
      else print(`${pc.red('FAIL')} ${title}: ${differences.join(', ')} ${pc.dim(place)}`);
    }
    print(`${results.length - failed.length} of ${results.length} tests pass`);
  }
  if (failed.length > 0) throw new Exit(exitCodes.failed);
}

async function explain(name: string, options: Options): Promise<void> {
  const chain = await loadChain(name);
  const loaded = policyFor(chain, { taskClass: options.class }, await viewing(chain));
  if (options.json === true) printJson({ digest: loaded.digest, policy: loaded.policy, lines: explainPolicy(loaded) });
  else print(explainText(loaded));
}

/** To look at it, whether or not a run could be opened with it. */
async function viewing(chain: readonly SourceFile[]): Promise<CompileOptions> {
  return { ...(await compileOptions(chain)), incomplete: true };
}

async function why(name: string, what: string, options: WhyOptions): Promise<void> {
  const chain = await loadChain(name);
  const { policy, digest } = policyFor(chain, { taskClass: options.class }, await viewing(chain));
  const question = questionOf(givenOf(what, options));
  if (question === undefined) throw new RunnerError('invalid_request', `${what}: not an http, https or tcp URL`);
  const decision = decide(compileRules(policy), question);
  if (options.json === true) printJson({ asked: what, digest, decision });
  else print(decisionText(what, decision, placeOfRule(chain, decision)));
  if (decision.effect === 'deny') throw new Exit(exitCodes.failed);
}

function givenOf(what: string, options: WhyOptions): Parameters<typeof questionOf>[0] {
  if (options.write === true) return { write: what };
  if (options.read === true) return { read: what };
  if (options.tool === true) return { tool: what };
  if (options.url === true || /^([A-Z]{3,10} )?(https?|tcp):\/\//.test(what)) return { url: what };
  return { command: what };
}

/** Where the rule stands, when it has an id. */
function placeOfRule(chain: readonly SourceFile[], { rule }: Decision): string | undefined {
  for (const { file, placeOf } of chain) {
    const command = file.commands?.findIndex(({ id }) => id === rule) ?? -1;
    if (command >= 0) return placeOf(['commands', command]);
    const denied = file.egress?.deny?.findIndex(({ id }) => id === rule) ?? -1;
    if (denied >= 0) return placeOf(['egress', 'deny', denied]);
    for (const [name, rules] of Object.entries(file.egress?.profiles ?? {})) {
      const at = rules.findIndex(({ id }) => id === rule || (rule.startsWith(`${id}.`) && /\.\d+$/.test(rule)));
      if (at >= 0) return placeOf(['egress', 'profiles', name, at]);
    }
    const upstream = file.egress?.upstreams?.findIndex(({ id }) => id === rule) ?? -1;
    if (upstream >= 0) return placeOf(['egress', 'upstreams', upstream]);
    if (/^files\.\w+$/.test(rule) && placeOf(['files', rule.slice(6)]) !== placeOf(['files']))
      return placeOf(['files', rule.slice(6)]);
  }
  return undefined;
}

async function diff(before: string, after: string, options: Options): Promise<void> {
  const chains = await Promise.all([loadChain(before), loadChain(after)]);
  const [then, now] = chains.map((chain) => classesOf(chain));
  const classes = options.class === undefined ? [...new Set([...(then ?? []), ...(now ?? [])])] : [options.class];
  const viewed = await Promise.all(chains.map(viewing));
  const compared = (classes.length === 0 ? [undefined] : classes).map((taskClass) => {
    const [a, b] = chains.map((chain, at) => {
      const known = classesOf(chain);
      if (taskClass !== undefined && known.length > 0 && !known.includes(taskClass)) return undefined;
      const task = { taskClass: known.length === 0 ? undefined : taskClass };
      return policyFor(chain, task, viewed[at]);
    });
    const reach = a === undefined || b === undefined ? undefined : reachDiff(a.policy, b.policy);
    const decisions = a === undefined || b === undefined ? [] : decisionDiff(chains, a.policy, b.policy, taskClass);
    return { class: taskClass ?? null, there: { before: a !== undefined, after: b !== undefined }, reach, decisions };
  });
  if (options.json === true) printJson({ before, after, classes: compared });
  else print(diffText(before, after, compared));
}

import type { CanonicalCommand } from './canonical-command.ts';
import type { CommandRule } from '../language/rules.ts';

export interface CommandDecision {
  readonly effect: 'allow' | 'require_approval' | 'deny';
  /** Undefined: no rule of the layer names the command. */
  readonly rule: CommandRule | undefined;
  readonly layer: string;
  /** Of all rules that match, in any layer. */
  readonly tags: readonly string[];
  readonly setEnv: Readonly<Record<string, string>>;
}

/** The rules of all layers, found by program. */
export class CommandRules {
  readonly #layers: readonly {
    readonly name: string;
    readonly byProgram: ReadonlyMap<string, readonly CommandRule[]>;
  }[];

  constructor(layers: readonly { readonly layer: string; readonly rules: readonly CommandRule[] }[]) {
    this.#layers = layers.map(({ layer, rules }) => ({ name: layer, byProgram: index(rules) }));
  }

  /** No layer has rules for commands: what a command line runs need not be read. */
  get isEmpty(): boolean {
    return this.#layers.length === 0;
  }

  /** The strictest that any layer says of any of the commands; undefined where no layer has rules for commands. */
  decide(commands: readonly CanonicalCommand[]): CommandDecision | undefined {
    const found = this.#layers.flatMap(({ name, byProgram }) =>
      commands.map((command) => decideIn(name, byProgram, command)),
    );
    const [first] = found;
    if (first === undefined) return undefined;
    const strictest = found.reduce((a, b) => (strictness[b.effect] > strictness[a.effect] ? b : a), first);
    return {
      ...strictest,
      tags: [...new Set(found.flatMap(({ tags }) => tags))],
      setEnv: Object.assign({}, ...found.map(({ setEnv }) => setEnv)) as Record<string, string>,
    };
  }
}

const strictness = { allow: 0, require_approval: 1, deny: 2 } as const;

export function matchesCommand({ match }: CommandRule, command: CanonicalCommand): boolean {
  if (match.opaque === true && !command.opaque) return false;
  const isAny = match.program.includes('*');
  // What cannot be read could be any program: only a rule that names none of them speaks of it.
  if (!isAny && !match.program.includes(command.program)) return false;
  if (match.subcommand !== undefined && !command.subcommands.some((word) => match.subcommand?.includes(word) === true))
    return false;
  return (match.arguments ?? []).every((word) => command.words.includes(word));
}

function decideIn(
  layer: string,
  byProgram: ReadonlyMap<string, readonly CommandRule[]>,
  command: CanonicalCommand,
): CommandDecision {
  const candidates = [...(byProgram.get(command.program) ?? []), ...(byProgram.get('*') ?? [])];
  const matching = candidates.filter((rule) => matchesCommand(rule, command));
  const [first] = matching;
  if (first === undefined) return { effect: 'deny', rule: undefined, layer, tags: [], setEnv: {} };
  const rule = matching.reduce((a, b) => (strictness[b.effect] > strictness[a.effect] ? b : a), first);
  return {
    effect: rule.effect,
    rule,
    layer,
    tags: matching.flatMap(({ tags }) => tags ?? []),
    setEnv: Object.assign({}, ...matching.map(({ set_env: set }) => set ?? {})) as Record<string, string>,
  };
}

function index(rules: readonly CommandRule[]): ReadonlyMap<string, readonly CommandRule[]> {
  const byProgram = new Map<string, CommandRule[]>();
  for (const rule of rules) {
    for (const program of rule.match.program) {
      const others = byProgram.get(program);
      if (others === undefined) byProgram.set(program, [rule]);
      else others.push(rule);
    }
  }
  return byProgram;
}

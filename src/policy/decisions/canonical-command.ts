import { posix } from 'node:path';
import { readScript, type SimpleCommand, type Word } from './shell-script.ts';

/** A command as rules see it: without its wrappers, its directory and the options before its subcommand. */
export interface CanonicalCommand {
  /** Name without directory; `''` where it cannot be known. */
  readonly program: string;
  /** First word after the options; more than one where it cannot be told which of them it is. */
  readonly subcommands: readonly string[];
  /** All words but the program. */
  readonly words: readonly string[];
  /** What runs cannot be read from the command line. */
  readonly opaque: boolean;
}

export type CommandLine = { readonly argv: readonly string[] } | { readonly script: string };

const depthMax = 10;
const commandsMax = 500;

/**
 * Every command that a command line is seen to run, through wrappers, shells and substitutions. A courtesy to rules that tag
 * and route, not a boundary: a program can start others in ways that no reader of command lines sees.
 */
export function canonicalCommands(line: CommandLine): readonly CanonicalCommand[] {
  const found =
    'argv' in line
      ? commandsIn({ words: line.argv.map((text) => ({ text, unknown: false })), input: undefined }, 0)
      : commandsOfScript(line.script, 0);
  return found.length > commandsMax ? [...found.slice(0, commandsMax), opaque('')] : found;
}

function commandsOfScript(text: string, depth: number): readonly CanonicalCommand[] {
  if (depth > depthMax) return [opaque('')];
  const script = readScript(text);
  const commands = script.commands.flatMap((command) => commandsIn(command, depth));
  return script.unclear ? [...commands, opaque('')] : commands;
}

function commandsIn({ words: all, input }: SimpleCommand, depth: number): readonly CanonicalCommand[] {
  const words = all.slice(all.findIndex((word) => !isAssignment(word)));
  const [first, ...rest] = all.every(isAssignment) ? [] : words;
  if (first === undefined) return [];
  const program = posix.basename(first.text).replace(/(?<=[\w-])@[\w.^~-]*$/, '');
  if (first.unknown || program === '' || depth > depthMax) return [opaque(first.unknown ? '' : program, rest)];
  const own = plain(program, rest);
  const inner = unwrap(program, rest, input, depth + 1);
  if (inner === undefined || inner.length === 0) return [own];
  return transparent.has(program) ? inner : [own, ...inner];
}

/** What the program runs in its turn; undefined where it is no wrapper. */
function unwrap(
  program: string,
  words: readonly Word[],
  input: string | undefined,
  depth: number,
): readonly CanonicalCommand[] | undefined {
  if (shells.has(program)) return ofShell(words, input, depth);
  if (program === 'eval') return ofText(words, depth);
  if (program === 'find') return ofFind(words, depth);
  if (program === 'env') {
    const split = words.findIndex(({ text }) => /^(-S|--split-string)/.test(text));
    if (split >= 0)
      return ofText(
        [
          { text: words[split]?.text.replace(/^(-S|--split-string=?)/, '') ?? '', unknown: false },
          ...words.slice(split + 1),
        ],
        depth,
      );
  }
  const wrapper = wrappers[program];
  if (wrapper === undefined || (wrapper.after !== undefined && !wrapper.after.includes(words[0]?.text ?? '')))
    return undefined;
  const from = wrapper.after === undefined ? words : words.slice(1);
  const script = optionValue(from, wrapper.script);
  if (script !== undefined) return ofText([script], depth);
  const command = afterOptions(from, wrapper);
  return command.length === 0 ? [] : commandsIn({ words: command, input }, depth);
}

function ofText(words: readonly Word[], depth: number): readonly CanonicalCommand[] {
  if (words.some(({ unknown }) => unknown)) return [opaque('', words)];
  return commandsOfScript(words.map(({ text }) => text).join(' '), depth);
}

/** `bash -lc 'script'`; a shell that reads its commands from elsewhere cannot be read. */
function ofShell(words: readonly Word[], input: string | undefined, depth: number): readonly CanonicalCommand[] {
  const at = words.findIndex(({ text }) => /^-[A-Za-z]*c[A-Za-z]*$/.test(text));
  const firstPlain = words.findIndex(({ text }) => !/^[-+]/.test(text));
  if (at >= 0 && (firstPlain < 0 || at < firstPlain || /^-[A-Za-z]*o$/.test(words[firstPlain - 1]?.text ?? ''))) {
    const script = words.slice(at + 1).find(({ text }) => !/^[-+]/.test(text));
    return script === undefined ? [opaque('')] : ofText([script], depth);
  }
  if (input !== undefined) return commandsOfScript(input, depth);
  return firstPlain >= 0 ? [] : [opaque('')];
}

/** `-exec program ... ;` of find, each of them. */
function ofFind(words: readonly Word[], depth: number): readonly CanonicalCommand[] | undefined {
  const starts = words.flatMap(({ text }, index) => (/^-(exec|execdir|ok|okdir)$/.test(text) ? [index] : []));
  if (starts.length === 0) return undefined;
  return starts.flatMap((start) => {
    const length = words.slice(start + 1).findIndex(({ text }) => text === ';' || text === '+');
    const end = length < 0 ? words.length : start + 1 + length;
    return commandsIn({ words: words.slice(start + 1, end), input: undefined }, depth);
  });
}

function plain(program: string, words: readonly Word[]): CanonicalCommand {
  const texts = words.map(({ text }) => text);
  return { program, subcommands: subcommandsOf(program, texts), words: texts, opaque: false };
}

function opaque(program: string, words: readonly Word[] = []): CanonicalCommand {
  return { program, subcommands: [], words: words.map(({ text }) => text), opaque: true };
}

function isAssignment({ text }: Word): boolean {
  return /^[A-Za-z_]\w*\+?=/.test(text);
}

interface Wrapper {
  /** Options that take the next word. */
  readonly values?: readonly string[];
  /** An option whose value is a script. */
  readonly script?: readonly string[];
  /** Plain words before the command: `timeout 5 cmd` has one. */
  readonly plain?: number;
  /** It wraps only after one of these words: `npm exec`. */
  readonly after?: readonly string[];
}

/** The options before the command are skipped; an option that is not known takes no value. */
function afterOptions(words: readonly Word[], { values = [], plain: count = 0 }: Wrapper): readonly Word[] {
  let at = 0;
  for (let seen = 0; at < words.length; at++) {
    const word = words[at];
    if (word === undefined) break;
    if (word.text === '--') {
      at += 1 + (count - seen);
      break;
    }
    if (values.includes(word.text)) at += 1;
    else if (/^[-+]./.test(word.text) || isAssignment(word)) continue;
    else if (seen++ >= count) break;
  }
  return words.slice(at);
}

function optionValue(words: readonly Word[], options: readonly string[] = []): Word | undefined {
  const at = words.findIndex(({ text }) => options.includes(text));
  if (at >= 0) return words[at + 1] ?? { text: '', unknown: true };
  const joined = words.find(({ text }) =>
    options.some((option) => option.startsWith('--') && text.startsWith(`${option}=`)),
  );
  return joined === undefined ? undefined : { ...joined, text: joined.text.slice(joined.text.indexOf('=') + 1) };
}

function subcommandsOf(program: string, words: readonly string[]): readonly string[] {
  const known = valueOptions[program] ?? [];
  const flags = plainFlags[program] ?? [];
  const found: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') continue;
    if (known.includes(word)) at += 1;
    else if (/^[-+]/.test(word)) continue;
    else {
      found.push(word);
      // After an option that is not known, this may have been its value.
      const before = words[at - 1] ?? '';
      const unsure =
        at > 0 && before.startsWith('-') && !before.includes('=') && !flags.includes(before) && before !== '--';
      if (!unsure || found.length >= 3) break;
    }
  }
  return found;
}

const shells: ReadonlySet<string> = new Set(['sh', 'bash', 'dash', 'ash', 'zsh', 'ksh', 'mksh', 'fish']);

/** Wrappers that are nothing by themselves: only what they run is a command. */
const transparent: ReadonlySet<string> = new Set(
  'env nice ionice nohup setsid stdbuf time timeout xargs command exec builtin eval busybox toybox sh bash dash ash zsh ksh mksh fish'.split(
    ' ',
  ),
);

const wrappers: Readonly<Record<string, Wrapper>> = {
  env: { values: ['-u', '--unset', '-C', '--chdir'] },
  sudo: { values: ['-u', '-g', '-h', '-p', '-C', '-T', '-r', '-t', '-D', '-R', '-U', '--user', '--group', '--chdir'] },
  doas: { values: ['-u', '-C'] },
  su: { script: ['-c', '--command'], values: ['-s', '--shell', '-g'], plain: 1 },
  runuser: { script: ['-c', '--command'], values: ['-u', '-g', '-s'] },
  nice: { values: ['-n', '--adjustment'] },
  ionice: { values: ['-c', '-n', '-p', '--class', '--classdata'] },
  chrt: { values: ['-T', '-P', '-D'], plain: 1 },
  taskset: { plain: 1 },
  nohup: {},
  setsid: {},
  stdbuf: { values: ['-i', '-o', '-e'] },
  time: { values: ['-f', '-o'] },
  timeout: { values: ['-k', '-s', '--kill-after', '--signal'], plain: 1 },
  xargs: {
    values: [
      '-a',
      '-d',
      '-E',
      '-I',
      '-L',
      '-n',
      '-P',
      '-s',
      '--arg-file',
      '--delimiter',
      '--max-args',
      '--max-procs',
      '--replace',
    ],
  },
  parallel: { values: ['-j', '--jobs', '-I', '-a'] },
  watch: { values: ['-n', '--interval'] },
  strace: { values: ['-e', '-o', '-p', '-s', '-u'] },
  script: { script: ['-c', '--command'] },
  flock: { script: ['-c', '--command'], values: ['-w', '--timeout', '-E'], plain: 1 },
  unshare: { values: ['-S', '-G', '-R', '-w'] },
  chroot: { plain: 1 },
  command: {},
  builtin: {},
  exec: { values: ['-a'] },
  busybox: {},
  toybox: {},
  npx: { script: ['-c', '--call'], values: ['-p', '--package', '-w', '--workspace'] },
  bunx: { values: ['-p', '--package'] },
  pnpx: { values: ['--package'] },
  uvx: { values: ['--from', '--with', '-p', '--python'] },
  npm: { after: ['exec', 'x'], script: ['-c', '--call'], values: ['-p', '--package', '-w', '--workspace'] },
  pnpm: { after: ['exec', 'dlx'], values: ['--package', '-C', '--dir', '-F', '--filter'] },
  yarn: { after: ['exec', 'dlx'], values: ['-p', '--package'] },
};

/** Options before the subcommand that take the next word. */
const valueOptions: Readonly<Record<string, readonly string[]>> = {
  git: ['-C', '-c', '--git-dir', '--work-tree', '--namespace', '--config-env', '--super-prefix', '--attr-source'],
  npm: ['--prefix', '-C', '-w', '--workspace', '--registry', '--loglevel', '--userconfig', '--cache'],
  pnpm: ['-C', '--dir', '-F', '--filter'],
  yarn: ['--cwd'],
  docker: ['-H', '--host', '--context', '-c', '--config', '-l', '--log-level'],
  kubectl: [
    '-n',
    '--namespace',
    '--context',
    '--cluster',
    '--kubeconfig',
    '-s',
    '--server',
    '--user',
    '--token',
    '--as',
  ],
  helm: ['-n', '--namespace', '--kube-context', '--kubeconfig'],
  aws: ['--profile', '--region', '--endpoint-url', '--output', '--query'],
  gcloud: ['--project', '--account', '--configuration', '--format'],
  az: ['--subscription', '--output', '-o', '--query'],
  cargo: ['--manifest-path', '-Z', '--config', '-C', '--color'],
  gh: ['-R', '--repo'],
};

const plainFlags: Readonly<Record<string, readonly string[]>> = {
  git: [
    '-p',
    '-P',
    '--paginate',
    '--no-pager',
    '--bare',
    '--no-replace-objects',
    '--literal-pathspecs',
    '--no-optional-locks',
  ],
  npm: ['-s', '--silent', '-g', '--global', '--yes', '-y', '--workspaces', '--ignore-scripts'],
  pnpm: ['-r', '--recursive', '-s', '--silent', '-w'],
  yarn: ['-s', '--silent'],
  cargo: ['-q', '--quiet', '-v', '--verbose', '--offline', '--locked', '--frozen'],
};

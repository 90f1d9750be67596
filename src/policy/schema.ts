import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { parseGlob } from '../workspace/glob.ts';
import { duration, durationOrNone, size } from './units.ts';

/**
 * A policy file as it is written. Strict: a key that is misspelt would otherwise leave a door open, or shut none.
 * The descriptions are the reference in `docs/policy.md`; a test compares them both ways.
 */

/** Every tool there is; a test compares the list with the tools. */
export const toolNames = [
  'exec',
  'exec_poll',
  'exec_write',
  'exec_signal',
  'exec_kill',
  'exec_resize',
  'exec_list',
  'output',
  'session_reset',
  'stat',
  'read',
  'write',
  'edit',
  'apply_patch',
  'list',
  'glob',
  'grep',
  'mkdir',
  'move',
  'remove',
  'upload',
  'download',
] as const;

/** Variables that carry secrets, or make a program load what it was not asked to. `*` stands for anything. */
export const deniedVariables = [
  '*TOKEN*',
  '*SECRET*',
  '*PASSWORD*',
  '*PASSWD*',
  '*CREDENTIAL*',
  '*API_KEY*',
  '*APIKEY*',
  '*ACCESS_KEY*',
  '*PRIVATE_KEY*',
  'LD_*',
  'DYLD_*',
  'GIT_*',
  'BASH_ENV',
  'ENV',
  'NODE_OPTIONS',
  'PERL5OPT',
  'PYTHONSTARTUP',
  'RUBYOPT',
  'JAVA_TOOL_OPTIONS',
] as const;

const glob = z.string().superRefine((pattern, context) => {
  try {
    parseGlob(pattern.startsWith('!') ? pattern.slice(1) : pattern);
  } catch (error) {
    context.addIssue(`the glob ${JSON.stringify(pattern.slice(0, 100))} ${messageOf(error)}`);
  }
});

const globs = z
  .array(glob)
  .max(256)
  .superRefine((patterns, context) => {
    const twice = patterns.findIndex((pattern, index) => patterns.indexOf(pattern) < index);
    if (twice >= 0) context.addIssue({ code: 'custom', message: 'the same glob twice', path: [twice] });
    if (patterns.length > 0 && patterns.every((pattern) => pattern.startsWith('!'))) {
      context.addIssue('every glob here excludes, so the list matches nothing; add what it includes');
    }
  })
  .readonly();

const Files = z
  .strictObject({
    read: globs.describe('Copied into the sandbox. What no list names is not there at all.'),
    write: globs.prefault([]).describe('May be changed; the changes are exported. Also copied in.'),
    scratch: globs
      .prefault([])
      .describe('May be changed, never exported, counted. For build output and caches; stronger than `write`.'),
    deny: globs
      .prefault([])
      .describe('Never copied in and never exported, with all below it, whatever the other lists say.'),
    include_ignored: z
      .boolean()
      .prefault(false)
      .describe('In a git work tree, also copy in what `.gitignore` leaves out.'),
    git: z
      .boolean()
      .prefault(false)
      .describe('Make a git repository of one commit from what was copied in, so that `git diff` works inside.'),
  })
  .superRefine((files, context) => {
    for (const list of ['read', 'write', 'scratch'] as const) {
      const dead = files[list].findIndex((pattern) => files.deny.includes(pattern));
      if (dead >= 0) {
        const message = `${JSON.stringify(files[list][dead])} is in deny too, so it can never match here; remove one`;
        context.addIssue({ code: 'custom', message, path: [list, dead] });
      }
    }
  });

const Input = z.strictObject({
  source: z
    .string()
    .regex(
      /^(?:\/(?!\.{1,2}(?:\/|$))[^/\0]+)+$/,
      'write an absolute path, without . and .. and without a slash at its end',
    )
    .max(4096)
    .describe('A directory of this machine, by its real path.'),
  target: z
    .string()
    .regex(/^\/inputs\/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'write /inputs/ and a name of letters, digits, dots, _ and -')
    .describe('Where it is in the sandbox: `/inputs/` and a name.'),
});

const Inputs = z
  .array(Input)
  .max(16)
  .superRefine((inputs, context) => {
    const twice = inputs.findIndex(({ target }, at) => inputs.findIndex((other) => other.target === target) < at);
    if (twice >= 0) context.addIssue({ code: 'custom', message: 'the same target twice', path: [twice, 'target'] });
  })
  .readonly();

const Environment = z.strictObject({
  image: z.string().describe('One of `images`: what it is built on.'),
  setup: z
    .array(z.array(z.string().min(1).max(4096)).min(1, 'a command has at least its program').max(256).readonly())
    .min(1, 'say at least one command, or leave environment out')
    .max(64)
    .readonly()
    .describe('Commands, each a list of program and arguments; run in order, as root, in /workspace.'),
  files: globs
    .prefault([])
    .describe('Files of the workspace that setup sees, such as lockfiles. A change of one makes a new environment.'),
});

const Limits = z.strictObject({
  memory: size({ min: '32MiB', max: '4096GiB' })
    .prefault('2GiB')
    .describe('Memory of all processes together, no swap.'),
  cpus: z.number().min(0.1).max(1024).prefault(2).describe('Processors; 1.5 is one and a half.'),
  pids: z.int().min(16).max(100_000).prefault(256).describe('Processes and threads at one time.'),
  open_files: z.int().min(64).max(1_048_576).prefault(1024).describe('Open files of one process.'),
  workspace: size({ min: '1MiB', max: '4096GiB' })
    .prefault('1GiB')
    .describe('Size of the workspace. What is written in memory counts into `memory` as well.'),
  workspace_files: z
    .int()
    .min(64)
    .max(50_000_000)
    .prefault(200_000)
    .describe('Files and directories in the workspace.'),
  tmp: size({ min: '1MiB', max: '1024GiB' })
    .prefault('256MiB')
    .describe('Size of /tmp, and of the home directory. In memory.'),
  wall_clock: duration({ min: '1s', max: '720h' })
    .prefault('30m')
    .describe('From the opening of a run; after it no further call is let in.'),
  command_timeout: duration({ min: '100ms', max: '24h' })
    .prefault('10m')
    .describe('Longest time of one command; a call may ask for less, not for more.'),
  idle_timeout: durationOrNone({ min: '1s', max: '24h' })
    .prefault('none')
    .describe('A command that prints nothing for so long is ended.'),
  output_per_call: size({ min: '1KiB', max: '64GiB' })
    .prefault('16MiB')
    .describe('A command that has printed more is ended (`output_limit`).'),
  reply_bytes: size({ min: '256B', max: '1MiB' })
    .prefault('30000B')
    .describe('Longest output in one reply; the rest is kept and can be read.'),
  output_per_run: size({ min: '1KiB', max: '1024GiB' }).prefault('256MiB').describe('Output of all calls together.'),
});

const Budget = z.strictObject({
  calls: z.int().min(1).max(100_000).prefault(50).describe('Tool calls of a run, counted when they are let in.'),
  denied: z
    .int()
    .min(0)
    .max(100_000)
    .prefault(8)
    .describe('Denied calls that are borne; with one more, no further call is let in.'),
  parallel: z.int().min(1).max(64).prefault(4).describe('Calls at one time.'),
});

const allTools = z
  .array(
    z.enum(toolNames, {
      error: (issue) => `no tool ${JSON.stringify(issue.input)}; there are: ${toolNames.join(', ')}`,
    }),
  )
  .min(1, 'no tool at all is allowed; leave tools out to allow every one')
  .readonly();

const Env = z.strictObject({
  set: z
    .record(z.string(), z.string({ error: 'write the value as text, in quotes' }).max(4096))
    .superRefine((variables, context) => {
      if (Object.keys(variables).length > 100) context.addIssue('more than 100 variables');
      for (const [name, value] of Object.entries(variables)) {
        const problem = problemOf(name, value);
        if (problem !== undefined) context.addIssue({ code: 'custom', message: problem, path: [name] });
      }
    })
    .readonly()
    .prefault({})
    .describe('Variables of every command, on top of the clean default environment. Nothing of the host is inherited.'),
});

export const PolicyFile = z
  .strictObject({
    apiVersion: z.literal('glovebox/v1', { error: 'must be glovebox/v1' }).describe('Always `glovebox/v1`.'),
    kind: z.literal('Policy', { error: 'must be Policy' }).describe('Always `Policy`.'),
    name: z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'write 1 to 64 of a-z, 0-9, dot, underscore and dash')
      .describe('Short name, for people and journals.'),
    description: z.string().max(1000).prefault('').describe('What it is for.'),
    images: z
      .array(z.string().regex(/^[A-Za-z0-9][\w.:/@-]{0,254}$/, 'write the name or the digest of an image'))
      .min(1, 'name at least one image')
      .max(32)
      .readonly()
      .describe('Images a run may use, by name or digest; the first is the default.'),
    runtime: z
      .enum(['runc', 'runsc'])
      .prefault('runc')
      .describe('`runsc` is gVisor; where it is missing, the run is refused.'),
    files: Files.describe('Which paths of the workspace, as globs (below).'),
    inputs: Inputs.prefault([]).describe(
      'Directories of this machine that every run can read, and none can change (below).',
    ),
    environment: Environment.optional().describe('Dependencies that are installed once, before any run (below).'),
    limits: Limits.prefault({}).describe('What the sandbox is given.'),
    budget: Budget.prefault({}).describe('How much a run may do.'),
    tools: z
      .strictObject({ allow: allTools.prefault([...toolNames]).describe('Tools that may be called.') })
      .prefault({})
      .describe('Which tools.'),
    env: Env.prefault({}).describe('Environment of commands.'),
  })
  .superRefine(({ environment, images }, context) => {
    if (environment === undefined || images.includes(environment.image)) return;
    const message = `${JSON.stringify(environment.image)} is not one of images (${images.join(', ')})`;
    context.addIssue({ code: 'custom', message, path: ['environment', 'image'] });
  });
export type PolicyFile = z.infer<typeof PolicyFile>;

function problemOf(name: string, value: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name))
    return `${JSON.stringify(name.slice(0, 100))} is no name for a variable`;
  if (value.includes('\0')) return `${name} holds a NUL`;
  const pattern = deniedVariables.find((denied) => matches(denied, name.toUpperCase()));
  if (pattern === undefined) return undefined;
  return `${name} may not be set (${pattern}): it carries secrets, or makes programs load what they were not asked to`;
}

function matches(pattern: string, name: string): boolean {
  return new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name);
}

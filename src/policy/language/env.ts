import { z } from 'zod';
import { field } from './fields.ts';

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

export const variables = z
  .record(z.string(), z.string({ error: 'write the value as text, in quotes' }).max(4096))
  .superRefine((set, context) => {
    if (Object.keys(set).length > 100) context.addIssue('more than 100 variables');
    for (const [name, value] of Object.entries(set)) {
      const problem = problemOf(name, value);
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem, path: [name] });
    }
  })
  .readonly();

export const Env = z.strictObject({
  set: field(
    variables,
    'Variables of every command, on top of the clean default environment. Nothing of the host is inherited.',
    {},
  ),
});

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

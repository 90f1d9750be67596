import { digestOf } from '../digest.ts';
import { sectionFrom, sectionOf, type Sections } from './fingerprint.ts';
import type { Installed } from './installed.ts';

/** Values that say nothing about anybody, and much about why two places differ. All others are shown by digest. */
const harmless =
  /^(?:PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TERM|LANG|LANGUAGE|LC_[A-Z]+|TZ|CI|NO_COLOR|NODE_ENV|DEBIAN_FRONTEND|(?:GIT_)?EDITOR|VISUAL|(?:GIT_|MAN|SYSTEMD_)?PAGER|GIT_TERMINAL_PROMPT|PYTHON(?:UNBUFFERED|HASHSEED)|SOURCE_DATE_EPOCH)$/;

const variablesMax = 1024;

/** Variables, and what of them and of files decides how text and time are read. `ofRun`: names whose values are of one run alone. */
export function environmentSections(
  env: readonly string[],
  ofRun: readonly string[],
  { locales, localtime }: Pick<Installed, 'locales' | 'localtime'>,
): Required<Pick<Sections, 'env' | 'locale' | 'time_zone'>> {
  const own = new Set(ofRun);
  const values = new Map(
    env.map((variable) => {
      const at = variable.indexOf('=');
      return [variable.slice(0, at), variable.slice(at + 1)] as const;
    }),
  );
  const shown = [...values].map(([name, value]): readonly [string, string] => {
    if (own.has(name)) return [name, 'of this run'];
    return [name, harmless.test(name) ? value : digestOf(value)];
  });
  const language = [...values].filter(([name]) => /^(?:LANG|LANGUAGE|LC_[A-Z]+)$/.test(name));
  return {
    env: sectionOf(new Map(shown), variablesMax),
    locale: sectionOf(new Map([...language, ['available', locales]])),
    time_zone: sectionFrom({ TZ: values.get('TZ'), '/etc/localtime': localtime }),
  };
}

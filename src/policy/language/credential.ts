import { z } from 'zod';
import { duration } from './units.ts';
import { host, methods, urlPath } from './egress.ts';
import { field } from './fields.ts';

const sources: Readonly<Record<string, RegExp>> = {
  env: /^[A-Za-z_][A-Za-z0-9_]{0,127}$/,
  file: /^(\/[\w.@+-]+)+$/,
  command: /^[a-z][a-z0-9_-]{0,63}$/,
  vault: /^[\w./@-]{1,200}$/,
  keychain: /^[\w./@-]{1,200}$/,
  oidc: /^[\w./@-]{1,200}$/,
};

/** By reference: a secret in a policy file is refused by what a reference looks like. */
export const Credential = z.strictObject({
  source: z
    .string()
    .max(300)
    .refine((text) => {
      const [, kind = '', rest = ''] = /^([a-z]+):(.*)$/.exec(text) ?? [];
      return sources[kind]?.test(rest) === true && !/(^|\/)\.{1,2}(\/|$)/.test(rest);
    }, 'write a reference: env:NAME, file:/absolute/path or command:name (vault:, keychain: and oidc: are known, but not available in this version)')
    .describe(
      'Where the runner finds it, never the secret itself: `env:NAME`, `file:/absolute/path`, or `command:name` of the configuration of this machine. `vault:`, `keychain:` and `oidc:` are known, but not available in this version.',
    ),
  host: host.describe('The one host that it is sent to.'),
  path: field(z.array(urlPath).min(1).max(64).readonly(), 'Paths that it is sent with.', ['/**']),
  methods: field(methods, 'Methods that it is sent with.', ['GET', 'HEAD']),
  header: field(z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/), 'Header that carries it.', 'Authorization'),
  format: field(
    z.string().max(100).includes('{}', { error: 'say where the secret goes with {}' }),
    'Value of the header, `{}` being the secret.',
    'Bearer {}',
  ),
  ttl: field(duration({ min: '1m', max: '24h' }), 'How long one is used before it is fetched again.', '30m'),
});
export type Credential = z.infer<typeof Credential>;

import { z } from 'zod';
import { duration, size } from './units.ts';
import { byName, field, names, ownName, ruleId, shortText } from './fields.ts';

/** `a.example`, `*.a.example` (one label more) or `**.a.example` (one or more). Never a bare star. */
const host = z
  .string()
  .max(253)
  .regex(
    /^(\*{1,2}\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
    'write a host name in lower case, such as api.example.org, *.example.org or **.example.org',
  );

const cidr = z.union([z.cidrv4(), z.cidrv6()], { error: 'write an address range such as 10.0.0.0/8 or fd00::/8' });

const urlPath = z
  .string()
  .max(1000)
  .regex(/^\//, 'a path begins with a slash')
  .refine((path) => !/[\\?#\s]|\/\.{1,2}(\/|$)/.test(path), 'write the path alone: no query, no . and .., no spaces');

const methods = names(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']));

const EgressRule = z.strictObject({
  id: ruleId.describe('Named in decisions and journals.'),
  host: names(host).describe('Host names; `*.` is one label more, `**.` one or more.'),
  ports: field(z.array(z.int().min(1).max(65_535)).min(1).max(16).readonly(), 'TCP ports.', [443]),
  methods: field(methods, 'HTTP methods.', ['GET', 'HEAD']),
  path: field(
    z.array(urlPath).min(1).max(64).readonly(),
    'Paths, as globs that begin with a slash: `*` within a segment, `**` any number of segments.',
    ['/**'],
  ),
  tls: field(
    z.enum(['terminate', 'pass_through', 'none']),
    'Whether the runner looks into the TLS connection: what names methods, paths or a credential needs `terminate`.',
    'terminate',
  ),
  credential: field(ownName, 'One of `credentials`: attached on the way out, never seen inside.'),
  max_sent: field(size({ min: '0B', max: '1GiB' }), 'Bytes that may be sent in one request.', '16KiB'),
});
export type EgressRule = z.infer<typeof EgressRule>;

const EgressDeny = z
  .strictObject({
    id: ruleId.describe('Named in decisions and journals.'),
    host: field(names(host), 'Host names.'),
    cidr: field(z.array(cidr).min(1).max(64).readonly(), 'Address ranges.'),
    reason: field(shortText, 'Shown with the refusal.'),
  })
  .refine((rule) => rule.host !== undefined || rule.cidr !== undefined, 'say which host or cidr');

export const Egress = z.strictObject({
  deny: field(z.array(EgressDeny).max(256).readonly(), 'Never reached, whatever a profile says.', []),
  profiles: field(
    byName(z.array(EgressRule).min(1).max(256).readonly()),
    'Named sets of rules. Classes, lanes, risk levels and intents name profiles; what one of them does not name is out.',
    {},
  ),
});
export type Egress = z.infer<typeof Egress>;

/** By reference: a secret in a policy file is refused by what a reference looks like. */
export const Credential = z.strictObject({
  source: z
    .string()
    .regex(/^(vault|env|file|keychain|oidc):[\w./@-]{1,200}$/, 'write a reference, such as vault:kv/agents/gh-readonly')
    .describe('Where the runner finds it, never the secret itself: `vault:`, `env:`, `file:`, `keychain:` or `oidc:`.'),
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

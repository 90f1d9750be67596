import { z } from 'zod';
import { messageOf } from '../../errors.ts';
import { registryKinds } from '../../registries/registries.ts';
import { compilePath } from './path-pattern.ts';
import { duration, size } from './units.ts';
import { byName, field, names, ownName, ruleId, shortText } from './fields.ts';

const hostPattern = /^(\*{1,2}\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const endsInNumber = /(^|\.)(\d+|0x[0-9a-f]*)$/;

/** `a.example`, `*.a.example` (one label more) or `**.a.example` (one or more). Never a bare star, never an address. */
export const host = z
  .string()
  .max(253)
  .regex(
    hostPattern,
    'write a host name in lower case, such as api.example.org, *.example.org or **.example.org; other letters as xn--',
  )
  .refine((name) => !endsInNumber.test(name), 'an address is no host name; name what answers there, or an upstream');
const exactHost = host.refine((name) => !name.startsWith('*'), 'write one host name, without a star');
const cidr = z.union([z.cidrv4(), z.cidrv6()], { error: 'write an address range such as 10.0.0.0/8 or fd00::/8' });
const cidrs = z.array(cidr).min(1).max(64).readonly();
const port = z.int().min(1).max(65_535);
const ports = z.array(port).min(1).max(16).readonly();
export const urlPath = z
  .string()
  .max(1000)
  .regex(/^\//, 'a path begins with a slash')
  .refine(
    (path) => !/[\\?#%\s]|\/\/|\/\.{1,2}(\/|$)/.test(path),
    'write the path alone: no query, no . and .., no %, no spaces',
  )
  .superRefine((path, context) => {
    try {
      compilePath(path);
    } catch (error) {
      context.addIssue(`the path ${JSON.stringify(path.slice(0, 100))} ${messageOf(error)}`);
    }
  });
export const methods = names(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']));
const query = z
  .record(z.string(), z.string().max(500))
  .superRefine((set, context) => {
    if (Object.keys(set).length > 32) context.addIssue('more than 32 parameters');
    for (const name of Object.keys(set))
      if (!/^[A-Za-z0-9._-]{1,100}$/.test(name))
        context.addIssue(`${JSON.stringify(name.slice(0, 100))} is no plain name of a parameter`);
  })
  .readonly();

/** What cannot be seen, and so cannot be held, in a TLS connection that is passed through. */
const seenInside = [
  'methods',
  'path',
  'query',
  'credential',
  'max_requests',
  'websocket',
  'allow_encoded_slash',
] as const;
/** What a registry of this machine says by itself. */
const saidByRegistry = [
  'host',
  'ports',
  'methods',
  'path',
  'query',
  'tls',
  'websocket',
  'allow_encoded_slash',
] as const;

/** Its keys alone, for whoever needs their defaults. */
export const EgressRuleKeys = z.strictObject({
  id: ruleId.describe('Named in decisions and journals.'),
  host: field(
    names(host).refine((list) => list.length > 0, 'name at least one host'),
    'Host names; `*.` is one label more, `**.` one or more. Needed, unless `registry` says them.',
  ),
  registry: field(
    z.enum(registryKinds),
    'Instead of a host: read from the registries or mirrors that the npm, pip or apt of this machine is set up for.',
  ),
  ports: field(ports, 'TCP ports; 80 where `tls` is `none`.', [443]),
  methods: field(methods, 'HTTP methods.', ['GET', 'HEAD']),
  path: field(
    z.array(urlPath).min(1).max(64).readonly(),
    'Paths, as globs that begin with a slash: `*` within a segment, `**` any number of segments.',
    ['/**'],
  ),
  query: field(
    query,
    'The query: these parameters with these values, each once, and no others; `*` is any value, or none. Left out, any query.',
  ),
  tls: field(
    z.enum(['terminate', 'pass_through', 'none']),
    '`terminate`: the runner looks into the TLS connection, which methods, paths and credentials need. `pass_through`: it sees host, port and bytes alone. `none`: plain HTTP.',
    'terminate',
  ),
  credential: field(ownName, 'One of `credentials`: attached on the way out, never seen inside.'),
  websocket: field(z.boolean(), 'WebSocket connections too.', false),
  allow_encoded_slash: field(
    z.boolean(),
    'Paths with `%2F`, as npm asks for `@scope%2Fname`; they have to match in both readings.',
    false,
  ),
  addresses: field(
    z.array(cidr).max(64).readonly(),
    'Private, loopback or other special addresses that the host may have; public ones need none, metadata services none helps.',
    [],
  ),
  max_sent: field(
    size({ min: '0B', max: '1024GiB' }),
    'Bytes that may be sent in one request; 1MiB in a connection that is passed through.',
    '16KiB',
  ),
  max_received: field(
    size({ min: '1KiB', max: '1024GiB' }),
    'Bytes that may come back in one request or connection.',
    '1GiB',
  ),
  max_requests: field(z.int().min(1).max(1_000_000_000), 'Requests of a run.', 10_000),
  timeout: field(duration({ min: '1s', max: '24h' }), 'Longest time of one request or connection.', '10m'),
});

const EgressRule = EgressRuleKeys.superRefine((rule, context) => {
  const report = (key: string, message: string): void => {
    context.addIssue({ code: 'custom', message, path: [key] });
  };
  if (rule.registry === undefined && rule.host === undefined) report('host', 'is missing: say host, or registry');
  for (const key of saidByRegistry)
    if (rule.registry !== undefined && rule[key] !== undefined)
      report(key, `the registry says it; leave it out, or leave registry out and write the whole rule`);
  for (const key of seenInside)
    if (rule.tls === 'pass_through' && rule[key] !== undefined)
      report(key, 'cannot be seen in a connection that is passed through; write tls: terminate, or leave it out');
  if (rule.tls === 'none' && rule.credential !== undefined)
    report('credential', 'a secret is not sent over a connection without TLS');
});
export type EgressRule = z.infer<typeof EgressRule>;

const EgressDeny = z
  .strictObject({
    id: ruleId.describe('Named in decisions and journals.'),
    host: field(names(host), 'Host names.'),
    cidr: field(cidrs, 'Address ranges.'),
    reason: field(shortText, 'Shown with the refusal.'),
  })
  .refine((rule) => rule.host !== undefined || rule.cidr !== undefined, 'say which host or cidr');

/** Where an upstream is: `unix:/path/of/a.socket` or `host:port`. */
export const destinationText = z
  .string()
  .max(300)
  .superRefine((text, context) => {
    const why = wrongDestination(text);
    if (why !== undefined) context.addIssue(why);
  });

const Upstream = z.strictObject({
  id: ownName.describe('Named like a profile where it may be used, and in decisions and journals.'),
  host: exactHost.describe('The name that it has inside.'),
  port: port.describe('The port that it has inside.'),
  to: destinationText.describe('Where it is: `unix:/path/of/a.socket` or `host:port`, as this machine sees it.'),
});
export type UpstreamRule = z.infer<typeof Upstream>;

export const Dns = z.strictObject({
  max_names: field(
    z.int().min(0).max(100_000),
    'Different names under rules with a star that a run may ask for: a name is a message.',
    64,
  ),
  max_unlisted: field(
    z.int().min(0).max(100_000),
    'Different names that no rule lists, which a run may ask for (in vain).',
    100,
  ),
  on_excess: field(
    z.enum(['deny', 'stop_run']),
    '`deny`: further names are refused. `stop_run`: the run is closed.',
    'deny',
  ),
});

export const Egress = z.strictObject({
  use: field(
    names(ownName),
    'Profiles and upstreams that runs may use. Without classes, those that they have; with classes, a ceiling for what these name.',
  ),
  deny: field(z.array(EgressDeny).max(256).readonly(), 'Never reached, whatever a profile says.', []),
  profiles: field(
    byName(z.array(EgressRule).min(1).max(256).readonly()),
    'Named sets of rules. `use`, classes, lanes, risk levels and intents name profiles; what one of them does not name is out.',
    {},
  ),
  upstreams: field(
    z.array(Upstream).max(64).readonly(),
    'Other services that a task needs, such as a test database: plain TCP, carried to where the runner finds them.',
    [],
  ),
  mode: field(
    z.enum(['enforce', 'observe']),
    '`observe`: what would be refused is let through and recorded as such, but never what `deny` names. Only where `observe` allows it.',
    'enforce',
  ),
  observe: field(z.literal('allowed'), 'Said in the topmost file: files below it may say `mode: observe`.'),
  dns: field(Dns, 'How many names a run may ask for.', {}),
  max_connections: field(z.int().min(1).max(256), 'Connections at one time.', 64),
});
export type Egress = z.infer<typeof Egress>;

const engineSocket = /(^|\/)(docker|containerd|podman|crio|buildkitd|lxd|libvirt-sock)(\.sock|\.socket)?$/;

function wrongDestination(text: string): string | undefined {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (
      !/^\/[\x21-\x7E]+$/.test(path) ||
      path
        .split('/')
        .slice(1)
        .some((part) => ['', '.', '..'].includes(part))
    )
      return 'write an absolute path without . and .., such as unix:/run/postgresql/.s.PGSQL.5432';
    if (Buffer.byteLength(path) > 107) return 'is longer than the path of a socket can be (107 bytes)';
    return engineSocket.test(path) ? 'the socket of an engine is never given to a sandbox' : undefined;
  }
  const [, where, digits] = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(text) ?? [];
  const isPort = Number(digits) >= 1 && Number(digits) <= 65_535;
  return where === undefined || !isPort ? 'write unix:/path or host:port, such as 127.0.0.1:5432' : undefined;
}

import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isIP } from 'node:net';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { isRunnerError, messageOf, RunnerError } from './errors.ts';
import { destinationText } from './policy/language/egress.ts';
import { issueLines } from './policy/language/issue-lines.ts';
import { readYaml } from './policy/language/yaml-source.ts';

/**
 * What the operator of this machine says, in `config.yaml`: how the network is reached, and which programs give credentials.
 * A policy names what is said here; it cannot say it. `docs/configuration.md` explains every key.
 */
export interface OperatorConfig {
  /** The file that was read; undefined where there is none. */
  readonly source: string | undefined;
  readonly egress: {
    /** `http://host:port`, or `https://`, perhaps with `user:password@`. */
    readonly proxy: string | undefined;
    /** Hosts that are dialled without the proxy: a name, `.suffix`, an address, or `*`. */
    readonly noProxy: readonly string[];
    /** PEM bundles that are believed besides the system's. */
    readonly caFiles: readonly string[];
    /** Names whose addresses are not asked for. */
    readonly hosts: Readonly<Record<string, readonly string[]>>;
    /** Name servers instead of the system's: an address, perhaps with a port. */
    readonly resolvers: readonly string[];
    /** In the network of this machine, for policies that are sent to its service: ranges, `host:port`, `unix:/path`. */
    readonly sentPolicies: readonly string[];
  };
  readonly credentials: {
    /** Programs that print a secret: the whole argument list, by name. */
    readonly commands: Readonly<Record<string, readonly string[]>>;
  };
  /** Where the key is that bundles are signed with; of the data directory, where nothing is said. */
  readonly signing: {
    /** A file with a private key, as PEM. */
    readonly key?: string | undefined;
    /** A program that prints one. */
    readonly command?: readonly string[] | undefined;
  };
  readonly promotion: {
    /** Who is in a team that CODEOWNERS names. */
    readonly members: Readonly<Record<string, readonly string[]>>;
    /** Files with public keys of reviewers, by their names. */
    readonly reviewers: Readonly<Record<string, readonly string[]>>;
    /** What lets us push, by the beginning of the address. */
    readonly remotes: readonly PushRemote[];
  };
}

interface PushRemote {
  /** With a slash at its end. */
  readonly url: string;
  /** Default `x-access-token`, which several hosts take with a token. */
  readonly user?: string | undefined;
  /** `env:NAME`, `file:/absolute/path` or `command:NAME`. */
  readonly source: string;
}

/** `$GLOVEBOX_CONFIG`, else the user's, else the machine's; nothing said where there is none. Throws `invalid_config`. */
export async function loadConfig(env: NodeJS.ProcessEnv = process.env): Promise<OperatorConfig> {
  const named = env['GLOVEBOX_CONFIG'];
  if (named !== undefined && named !== '') {
    if (!isAbsolute(named)) throw invalid(`GLOVEBOX_CONFIG=${named}`, 'write a path that begins with a slash');
    const text = await readConfigFile(named, env);
    if (text === undefined) throw invalid(`GLOVEBOX_CONFIG=${named}`, 'there is no such file; unset it or make one');
    return parseConfig(text, named);
  }
  for (const path of usualPlaces(env)) {
    const text = await readConfigFile(path, env);
    if (text !== undefined) return parseConfig(text, path);
  }
  return { ...nothingSaid, source: undefined };
}

/** Where a file is looked for, the first that is there counts; `GLOVEBOX_CONFIG` goes before them. */
export function usualPlaces(env: NodeJS.ProcessEnv = process.env): readonly string[] {
  const home = env['XDG_CONFIG_HOME']; // a relative one is to be ignored (XDG base directories)
  const own = home !== undefined && isAbsolute(home) ? home : join(env['HOME'] ?? homedir(), '.config');
  return [join(own, 'glovebox', 'config.yaml'), '/etc/glovebox/config.yaml'];
}

export function parseConfig(text: string, source: string): OperatorConfig {
  if (text.split('\n').every((line) => /^\s*(#|$)/.test(line))) return { ...nothingSaid, source };
  const document = asConfig(() => readYaml(text, source));
  const parsed = ConfigFile.safeParse(document.value, { reportInput: true });
  if (!parsed.success)
    throw new RunnerError('invalid_config', issueLines(parsed.error.issues, document, ConfigFile).join('\n'));
  const { egress = {}, credentials = {}, signing = {}, promotion = {} } = parsed.data;
  return {
    source,
    egress: {
      proxy: egress.proxy,
      noProxy: egress.no_proxy ?? [],
      caFiles: egress.ca ?? [],
      hosts: egress.hosts ?? {},
      resolvers: egress.resolvers ?? [],
      sentPolicies: egress.sent_policies ?? [],
    },
    credentials: { commands: credentials.commands ?? {} },
    signing,
    promotion: {
      members: promotion.members ?? {},
      reviewers: promotion.reviewers ?? {},
      remotes: promotion.remotes ?? [],
    },
  };
}

const nothingSaid: Omit<OperatorConfig, 'source'> = {
  egress: { proxy: undefined, noProxy: [], caFiles: [], hosts: {}, resolvers: [], sentPolicies: [] },
  credentials: { commands: {} },
  signing: {},
  promotion: { members: {}, reviewers: {}, remotes: [] },
};

const hostName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/, 'write a host name in lower case');
const address = z.string().refine((text) => isIP(text) !== 0, 'write an IPv4 or IPv6 address');
const absolute = z
  .string()
  .max(4096)
  .refine((path) => isAbsolute(path), 'write a path that begins with a slash');
const proxyUrl = z.string().max(2048).refine(isProxy, 'write http://host:port or https://host:port, without a path');
const resolver = z
  .string()
  .refine(isResolver, 'write the address of a name server, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53');
/** What `addresses` of a rule and `to` of an upstream say. */
const destination = z.union([z.cidrv4(), z.cidrv6(), destinationText], {
  error: 'write a range such as 10.0.0.0/8, host:port, or unix:/path/of/a.socket',
});
const bypass = z
  .string()
  .max(253)
  .regex(/^(\*|\.?[a-z0-9:][a-z0-9:._/-]*)$/, 'write a host name in lower case, .suffix, an address, a range or *');
const commandName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'write a name of a-z, 0-9, underscore and dash, up to 64');
const argv = z
  .array(
    z
      .string()
      .max(4096)
      .refine((text) => !text.includes('\0'), 'a NUL cannot be an argument'),
  )
  .min(1, 'write the program and its arguments as a list')
  .max(64)
  .refine(
    ([program]) => program !== undefined && isAbsolute(program),
    'the program is a path that begins with a slash',
  );

const ownerName = z.string().regex(/^@?[\p{L}\p{N}][\p{L}\p{N} ._@+/-]{0,127}$/u, 'write a name as CODEOWNERS has it');
const remoteUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^\s@?#]+\/$/, 'write https://host/ or https://host/path/, with a slash at its end and no user');
const remoteUser = z.string().regex(/^[\x21-\x39\x3b-\x7e]{1,200}$/, 'write a user without colon or spaces');
const source = z
  .string()
  .max(300)
  .regex(/^(env|file|command):./, 'write env:NAME, file:/absolute/path or command:name');

const ConfigFile = z.strictObject({
  egress: z
    .strictObject({
      proxy: proxyUrl.optional(),
      no_proxy: z.array(bypass).max(256).optional(),
      ca: z.array(absolute).max(16).optional(),
      hosts: z.record(hostName, z.array(address).min(1).max(16)).optional(),
      resolvers: z.array(resolver).min(1).max(4).optional(),
      sent_policies: z.array(destination).max(256).optional(),
    })
    .optional(),
  credentials: z.strictObject({ commands: z.record(commandName, argv).optional() }).optional(),
  signing: z
    .strictObject({ key: absolute.optional(), command: argv.optional() })
    .refine(({ key, command }) => key === undefined || command === undefined, 'say key or command, not both')
    .optional(),
  promotion: z
    .strictObject({
      members: z.record(ownerName, z.array(ownerName).max(1000)).optional(),
      reviewers: z.record(ownerName, z.array(absolute).min(1).max(8)).optional(),
      remotes: z
        .array(z.strictObject({ url: remoteUrl, user: remoteUser.optional(), source }))
        .max(64)
        .optional(),
    })
    .optional(),
});

/** For the docs and their test. */
export const configKeys: readonly string[] = Object.entries(ConfigFile.shape).flatMap(([part, schema]) =>
  Object.keys(schema.unwrap().shape).map((key) => `${part}.${key}`),
);

const bytesMax = 65_536;

/** Undefined where there is none. What others may write could name their program as ours: it is refused. */
async function readConfigFile(path: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || (code === 'ENOTDIR' && env['GLOVEBOX_CONFIG'] === undefined)) return undefined;
    throw invalid(path, `cannot be read: ${messageOf(error)}`, error);
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) throw invalid(path, 'is not a regular file');
    const us = process.geteuid?.();
    if (found.uid !== 0 && found.uid !== us)
      throw invalid(path, `belongs to user ${found.uid}, and we are ${us ?? 'unknown'}; it has to be ours or root's`);
    if ((found.mode & 0o022) !== 0) throw invalid(path, `others may write it; do: chmod go-w ${path}`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytesMax + 1), 0, bytesMax + 1, 0);
    if (bytesRead > bytesMax) throw invalid(path, `is longer than ${bytesMax} bytes`);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function isProxy(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, pathname, search, hash, hostname } = new URL(text);
  return (
    /^https?:$/.test(protocol) && hostname !== '' && (pathname === '/' || pathname === '') && `${search}${hash}` === ''
  );
}

function isResolver(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  return isIP(v6 ?? v4 ?? '') === (v6 === undefined ? 4 : 6) && Number(port) >= 1 && Number(port) <= 65_535;
}

/** The reader of policies says what is wrong with a file of YAML; here it is another file. */
function asConfig<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy'))
      throw new RunnerError('invalid_config', error.message, { cause: error });
    throw error;
  }
}

function invalid(place: string, what: string, cause?: unknown): RunnerError {
  return new RunnerError('invalid_config', `${place}: ${what}`, cause === undefined ? {} : { cause });
}

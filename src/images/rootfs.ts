import { createHash } from 'node:crypto';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import type { Digest } from '../digest.ts';

/** What a root file system's tar holds, read in one pass over its bytes. */
export interface RootfsFacts {
  /** sha256 of the tar. */
  readonly content: Digest;
  readonly bytes: number;
  /** Of the first package that is no `all`. */
  readonly architecture: string;
  /** Debian's, sorted by name. */
  readonly packages: readonly DebianPackage[];
  /** Every package below a `node_modules`, sorted. */
  readonly npm: readonly { readonly name: string; readonly version: string }[];
  /** Installed Python packages, as their metadata directories name them, sorted. */
  readonly python: readonly string[];
  /** Why this must not run as a sandbox, in lines; empty for an image of ours. */
  readonly faults: readonly string[];
}

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

const keptBytesMax = 16 * 1024 * 1024;
const manifestBytesMax = 1024 * 1024;
/** Of one kind. Whoever fills a root file system may put any number of them there. */
const namedMax = 100_000;
const npmManifest = /^(?:usr|opt)\/(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+\/package\.json$/;

const pythonMetadata = /\/([^/]+)-([^/-]+)\.dist-info\/METADATA$/;

export async function readRootfs(tar: Readable): Promise<RootfsFacts> {
  const hash = createHash('sha256');
  let bytes = 0;
  const counting = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(undefined, chunk);
    },
  });
  const entries = extract();
  const [seen] = await Promise.all([readEntries(entries), pipeline(tar, counting, entries)]);
  const packages = parseDpkgStatus(seen.texts.get('var/lib/dpkg/status') ?? '');
  return {
    content: `sha256:${hash.digest('hex')}`,
    bytes,
    architecture: packages.find((found) => found.architecture !== 'all')?.architecture ?? 'unknown',
    packages,
    npm: [...seen.npm.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, found]) => found),
    python: [...seen.python].sort(),
    faults: [...seen.faults, ...missing(seen)],
  };
}

/** Installed packages of a dpkg status file, sorted. */
export function parseDpkgStatus(text: string): readonly DebianPackage[] {
  return text
    .split('\n\n')
    .flatMap((stanza) => {
      const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
      const [name, version, architecture] = [field('Package'), field('Version'), field('Architecture')];
      if (name === undefined || version === undefined || architecture === undefined) return [];
      return field('Status') === 'install ok installed' ? [{ name, version, architecture }] : [];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

interface Seen {
  readonly headers: ReadonlyMap<string, Header>;
  readonly texts: ReadonlyMap<string, string>;
  readonly npm: ReadonlyMap<string, NpmPackage>;
  readonly python: ReadonlySet<string>;
  readonly faults: readonly string[];
}

type NpmPackage = RootfsFacts['npm'][number];

async function readEntries(entries: ReturnType<typeof extract>): Promise<Seen> {
  const headers = new Map<string, Header>();
  const texts = new Map<string, string>();
  const npm = new Map<string, NpmPackage>();
  const python = new Set<string>();
  const faults: string[] = [];
  for await (const entry of entries) {
    const name = entry.header.name.replace(/^(\.?\/)+/, '').replace(/\/+$/, '');
    const fault = faultOf(name, entry.header);
    if (fault !== undefined && faults.length < 100) faults.push(fault);
    const [, pythonName, pythonVersion] = pythonMetadata.exec(name) ?? [];
    if (pythonName !== undefined && python.size < namedMax) python.add(`${pythonName}==${pythonVersion ?? ''}`);
    if (isMountPoint(name)) headers.set(name, entry.header);
    if (npmManifest.test(name) && entry.header.size <= manifestBytesMax && npm.size < namedMax) {
      const found = npmPackage((await bytesOf(entry)).toString('utf8'));
      if (found !== undefined) npm.set(`${found.name}@${found.version}`, found);
    } else if (isText(name) && entry.header.size <= keptBytesMax)
      texts.set(name, (await bytesOf(entry)).toString('utf8'));
    else entry.resume();
  }
  return { headers, texts, npm, python, faults };
}

/** A whole entry of a tar. */
export async function bytesOf(entry: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of entry) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function isText(name: string): boolean {
  return name === 'etc/passwd' || name === 'var/lib/dpkg/status';
}

function isMountPoint(name: string): boolean {
  return name === 'home/agent' || name === 'workspace' || name === '.glovebox';
}

function faultOf(name: string, header: Header): string | undefined {
  const kind = header.type;
  if (kind === 'character-device' || kind === 'block-device' || kind === 'fifo') return `${name}: a device or FIFO`;
  if ((name.startsWith('dev/') || name.startsWith('proc/') || name.startsWith('sys/')) && kind !== 'directory') {
    return `${name}: something where the engine mounts its own`;
  }
  if (/^(dev|proc|sys|workspace|\.glovebox|home|home\/agent|tmp|run)$/.test(name) && kind !== 'directory')
    return `${name}: not a directory`;
  if (kind === 'file' && (header.mode & 0o6000) !== 0) return `${name}: setuid or setgid`;
  if (hasCapabilities(header.pax)) return `${name}: file capabilities`;
  if (name === 'etc/machine-id') return `${name}: the identity of a machine`;
  // Of a cleaned apt, empty lock files are left.
  if (kind === 'file' && header.size > 0 && /^var\/(log|lib\/apt\/lists|cache\/apt)\//.test(name))
    return `${name}: left over from the build`;
  return undefined;
}

function hasCapabilities(pax: unknown): boolean {
  return typeof pax === 'object' && pax !== null && 'SCHILY.xattr.security.capability' in pax;
}

function missing({ headers, texts }: Seen): readonly string[] {
  const faults: string[] = [];
  const passwd = texts.get('etc/passwd') ?? '';
  if (!/^agent:[^:]*:10001:10001:[^:]*:\/home\/agent:/m.test(passwd))
    faults.push('etc/passwd: no user agent (10001:10001)');
  if (!texts.has('var/lib/dpkg/status')) faults.push('var/lib/dpkg/status: absent');
  for (const [name, owner] of [
    ['home/agent', 10001],
    ['workspace', 10001],
    ['.glovebox', 0],
  ] as const) {
    const header = headers.get(name);
    if (header?.type !== 'directory' || header.uid !== owner) faults.push(`${name}: not a directory owned by ${owner}`);
  }
  return faults;
}

/** Undefined for what is none: some packages carry broken ones, for their own tests. */
function npmPackage(text: string): NpmPackage | undefined {
  try {
    const manifest: unknown = JSON.parse(text);
    if (typeof manifest !== 'object' || manifest === null || !('name' in manifest) || !('version' in manifest))
      return undefined;
    return {
      name: String(manifest.name).slice(0, nameCharsMax),
      version: String(manifest.version).slice(0, nameCharsMax),
    };
  } catch {
    return undefined;
  }
}

const nameCharsMax = 256;

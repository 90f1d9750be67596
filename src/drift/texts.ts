import { insteadText, shown, type DriftFinding } from './findings.ts';
import { sizeText } from './moments.ts';

/** One line that a person understands: what is otherwise, and why something would then work there and not here. */
export function textOf(finding: Pick<DriftFinding, 'kind' | 'source' | 'key' | 'expected' | 'found'>): string {
  const { kind, source, key, expected, found } = finding;
  const name = shown(key);
  const instead = insteadText(expected, found);
  if (key === '(more)') return `${sourceNames[source] ?? source}: there are more differences than are kept`;
  switch (kind) {
    case 'image':
      return `the image is ${instead}: whatever is not named more closely may come of that`;
    case 'packages':
      return `package ${name} is ${instead}: programs and libraries of it do otherwise, or are not there`;
    case 'tool_version':
      return `${name} is ${toolText(expected, found)}: what was written for the one may fail with the other`;
    case 'system_file':
      return `${source === 'users' ? 'user' : 'file'} ${name} is ${fileText(expected, found)}: programs that read it do otherwise`;
    case 'env':
      return `${name} is ${instead}: ${envEffect(source, key)}`;
    case 'lockfile':
      if (key.endsWith(' sha256'))
        return `${name.slice(0, -' sha256'.length)} is another one: other packages are wanted`;
      return `${name}: ${shown(found ?? 'it is gone')}${expected === 'in_step' ? '' : ` (expected: ${shown(expected ?? 'none')})`}: what is installed is not what is locked`;
    case 'base_moved':
      return `the work began with other files: ${instead}`;
    case 'policy':
      return `the policy is another one: ${instead}: what was allowed may not be`;
    case 'egress':
      return source === 'network'
        ? `network ${name} is ${instead}: there is a way out that the policy does not know`
        : `what can be reached is otherwise: ${name} is ${instead}`;
    case 'mount':
      return `the mount ${name} is ${instead}: other files are seen there`;
    case 'resource_pressure':
      if (source === 'mounts') return `the room of ${name} is ${instead}: what needs more fails`;
      return `${limitName(key)} is ${limitText(key, expected, found)}: what needs more is slower, or killed`;
    case 'engine':
      return `${sourceNames[source] ?? source} ${name} is ${instead}: it is another machine, or another way to run`;
    case 'clock':
    case 'process_left':
      return `${name} is ${instead}`;
  }
}

const sourceNames: Readonly<Record<string, string>> = {
  packages: 'packages',
  system_files: 'files outside the workspace',
  tools: 'programs',
  users: 'users',
  cpu: 'processor',
  lockfiles: 'lock files',
};

/** Version, path and digest: the first that differs says it. */
function toolText(expected: string | undefined, found: string | undefined): string {
  const [[oldVersion, oldPath], [version, path]] = [expected ?? '', found ?? ''].map((text) => text.split(' ')) as [
    string[],
    string[],
  ];
  if (expected === undefined || found === undefined || oldVersion !== version)
    return insteadText(expected && oldVersion, found && version);
  return oldPath === path ? `another file of the same version (${shown(version ?? '')})` : insteadText(oldPath, path);
}

/** Nobody reads digests: that they differ is what they say. */
function fileText(expected: string | undefined, found: string | undefined): string {
  if (expected === undefined || found === undefined) return found === undefined ? 'gone' : 'new';
  return 'changed';
}

function envEffect(source: string, key: string): string {
  if (source === 'time_zone' || key === 'TZ') return 'dates and times are read and written otherwise';
  if (source === 'locale' || key === 'LANG' || key.startsWith('LC_'))
    return 'sorting, letters and messages come out otherwise';
  if (key === 'PATH') return 'other programs are found';
  return 'programs that look at it do otherwise';
}

function limitName(key: string): string {
  const [, side, name = key] = /^(asked|engine|kernel)\.(.+)$/.exec(key) ?? [];
  const plain = limitNames[name] ?? shown(name);
  return side === 'engine' || side === 'kernel' ? `${plain} (as the ${side} has it)` : plain;
}

const limitNames: Readonly<Record<string, string>> = {
  memory_bytes: 'memory',
  cpus: 'processors',
  cores: 'processors of the machine',
  pids: 'processes',
  processes: 'processes of calls',
  open_files: 'open files',
  memory_swap_bytes: 'memory and swap',
  workspace_bytes: 'room of the workspace',
  workspace_inodes: 'files of the workspace',
  tmp_bytes: 'room of /tmp',
  home_bytes: 'room of the home directory',
  shm_bytes: 'shared memory',
};

function limitText(key: string, expected: string | undefined, found: string | undefined): string {
  const text = (value: string | undefined): string | undefined =>
    value === undefined || !key.endsWith('bytes') || !/^\d{1,15}$/.test(value) ? value : sizeText(Number(value));
  return insteadText(text(expected), text(found));
}

import { isIP } from 'node:net';

/** What an address is for. Only `public` ones are reached without being named by a rule; some are reached by none. */
export type AddressClass =
  | 'public'
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'shared'
  | 'link_local'
  | 'metadata'
  | 'multicast'
  | 'broadcast'
  | 'documentation'
  | 'benchmarking'
  | 'embedded'
  | 'reserved';

/** Never reached, whatever a rule says: metadata services give out credentials; the others are no single host. */
export const neverReached: ReadonlySet<AddressClass> = new Set(['unspecified', 'metadata', 'multicast', 'broadcast']);

/**
 * IANA's registries of special-purpose addresses (RFC 6890; IPv4 and IPv6 as of 2025), multicast (RFC 5771, RFC 4291), and the
 * metadata services of the clouds. The longest prefix counts. Of IPv6, what is outside 2000::/3 is reserved.
 */
const table: readonly (readonly [cidr: string, AddressClass])[] = [
  ['0.0.0.0/0', 'public'],
  ['0.0.0.0/8', 'unspecified'], // 0.0.0.0 is this host
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'shared'],
  ['100.100.100.200/32', 'metadata'], // Alibaba Cloud
  ['127.0.0.0/8', 'loopback'],
  ['168.63.129.16/32', 'metadata'], // Azure
  ['169.254.0.0/16', 'link_local'],
  ['169.254.169.254/32', 'metadata'], // AWS, Google, Azure, OpenStack and others
  ['169.254.169.253/32', 'metadata'], // AWS: resolver
  ['169.254.170.0/24', 'metadata'], // AWS: credentials of tasks
  ['169.254.0.23/32', 'metadata'], // Tencent Cloud
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.0.192/32', 'metadata'], // Oracle Cloud
  ['192.0.2.0/24', 'documentation'],
  ['192.88.99.0/24', 'embedded'], // 6to4 relays
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'benchmarking'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['255.255.255.255/32', 'broadcast'],
  ['::/0', 'reserved'],
  ['::/96', 'embedded'], // IPv4-compatible
  ['::/128', 'unspecified'],
  ['::1/128', 'loopback'],
  ['::ffff:0:0/96', 'embedded'], // IPv4-mapped
  ['::ffff:0:0:0/96', 'embedded'], // IPv4-translated
  ['64:ff9b::/96', 'embedded'], // NAT64
  ['64:ff9b:1::/48', 'reserved'], // NAT64 of a network's own, the address anywhere in it
  ['100::/64', 'reserved'], // discard
  ['100:0:0:1::/64', 'reserved'], // dummy
  ['2000::/3', 'public'],
  ['2001::/23', 'reserved'],
  ['2001::/32', 'embedded'], // Teredo
  ['2001:1::1/128', 'public'], // anycast of PCP, TURN and DNS-SD
  ['2001:1::2/128', 'public'],
  ['2001:1::3/128', 'public'],
  ['2001:2::/48', 'benchmarking'],
  ['2001:3::/32', 'public'], // AMT
  ['2001:4:112::/48', 'public'], // AS112
  ['2001:20::/28', 'public'], // ORCHIDv2
  ['2001:30::/28', 'public'], // drone identification
  ['2001:db8::/32', 'documentation'],
  ['2002::/16', 'embedded'], // 6to4
  ['3fff::/20', 'documentation'],
  ['5f00::/16', 'reserved'], // segment routing
  ['fc00::/7', 'private'],
  ['fd00:ec2::/32', 'metadata'], // AWS
  ['fd20:ce::254/128', 'metadata'], // Google
  ['fe80::/10', 'link_local'],
  ['fec0::/10', 'private'], // site-local, deprecated
  ['ff00::/8', 'multicast'],
];

/** 4 or 16 bytes. Undefined: no address, or one with a zone. */
export function addressBytes(text: string): Uint8Array | undefined {
  const family = text.includes('%') ? 0 : isIP(text);
  if (family === 4) return Uint8Array.from(text.split('.'), Number);
  return family === 6 ? bytesOf6(text) : undefined;
}

export function classOfAddress(bytes: Uint8Array): AddressClass {
  const found = (bytes.length === 4 ? of4 : of6).find(({ range }) => isIn(range, bytes))?.addressClass ?? 'reserved';
  // Interface identifiers of ISATAP (RFC 5214) carry an IPv4 address.
  return found === 'public' && isIsatap(bytes) ? 'embedded' : found;
}

/** The IPv4 addresses that an IPv6 address stands for or carries, in each of the ways in which one does. */
export function embeddedAddresses(bytes: Uint8Array): readonly Uint8Array[] {
  if (bytes.length !== 16) return [];
  const first = (count: number): string => Buffer.from(bytes.subarray(0, count)).toString('hex');
  const last = bytes.subarray(12);
  if (first(12) === '0'.repeat(24)) return Buffer.compare(last, Uint8Array.of(0, 0, 0, 1)) <= 0 ? [] : [last];
  if (['00000000000000000000ffff', '0000000000000000ffff0000', '0064ff9b0000000000000000'].includes(first(12)))
    return [last];
  if (first(2) === '2002') return [bytes.subarray(2, 6)];
  if (first(4) === '20010000') return [bytes.subarray(4, 8), last.map((byte) => byte ^ 255)];
  return isIsatap(bytes) ? [last] : [];
}

function isIsatap(bytes: Uint8Array): boolean {
  return bytes.length === 16 && /^0[02]005efe$/.test(Buffer.from(bytes.subarray(8, 12)).toString('hex'));
}

export interface AddressRange {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** Of a text that the policy's schema has accepted; throws RangeError otherwise. */
export function parseRange(cidr: string): AddressRange {
  const [address = '', bits = ''] = cidr.split('/');
  const bytes = addressBytes(address);
  if (bytes === undefined || !/^\d{1,3}$/.test(bits) || Number(bits) > bytes.length * 8)
    throw new RangeError(`${cidr} is no range of addresses`);
  return { bytes, bits: Number(bits) };
}

/** Of the same family alone: an IPv4 address within an IPv6 one is taken out before. */
export function isIn({ bytes: range, bits }: AddressRange, bytes: Uint8Array): boolean {
  if (range.length !== bytes.length) return false;
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (range[at] !== bytes[at]) return false;
  const rest = bits & 7;
  return rest === 0 || ((range[whole] ?? 0) ^ (bytes[whole] ?? 0)) >> (8 - rest) === 0;
}

function bytesOf6(text: string): Uint8Array {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = (high: string | undefined, low: string | undefined): string =>
    ((Number(high) << 8) | Number(low)).toString(16);
  const plain = dotted === null ? text : `${dotted[1]}${hex(dotted[2], dotted[3])}:${hex(dotted[4], dotted[5])}`;
  const [head = '', tail] = plain.split('::');
  const groups = (part: string | undefined): readonly string[] =>
    part === undefined || part === '' ? [] : part.split(':');
  const [left, right] = [groups(head), groups(tail)];
  const all = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right];
  return Uint8Array.from(all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255]));
}

const byLength = table
  .map(([cidr, addressClass]) => ({ range: parseRange(cidr), addressClass }))
  .sort((a, b) => b.range.bits - a.range.bits);
const of4 = byLength.filter(({ range }) => range.bytes.length === 4);
const of6 = byLength.filter(({ range }) => range.bytes.length === 16);

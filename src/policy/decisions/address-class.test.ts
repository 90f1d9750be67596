import { BlockList } from 'node:net';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { addressBytes, classOfAddress, embeddedAddresses, isIn, parseRange } from './address-class.ts';

const classes: Readonly<Record<string, readonly string[]>> = {
  public: [
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.0.1.0',
    '192.167.255.255',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '192.31.196.1',
    '192.52.193.1',
    '192.175.48.1',
    '2606:4700::1111',
    '2001:200::1',
    '2001:4:112::1',
    '2620:4f:8000::1',
    '3ffe::1',
  ],
  unspecified: ['0.0.0.0', '0.255.255.255', '::', '0:0:0:0:0:0:0:0'],
  loopback: ['127.0.0.0', '127.0.0.1', '127.255.255.255', '::1', '0:0:0:0:0:0:0:1', '::0.0.0.1'],
  private: [
    '10.0.0.0',
    '10.255.255.255',
    '172.16.0.0',
    '172.31.255.255',
    '192.168.0.0',
    '192.168.255.255',
    'fc00::',
    'fdff::1',
    'fec0::1',
  ],
  shared: ['100.64.0.0', '100.127.255.255'],
  link_local: ['169.254.0.1', '169.254.255.255', 'fe80::1', 'febf::1'],
  metadata: [
    '169.254.169.254',
    '169.254.170.2',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
    'fd00:ec2::254',
    'fd20:ce::254',
  ],
  multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1'],
  broadcast: ['255.255.255.255'],
  documentation: ['192.0.2.1', '198.51.100.2', '203.0.113.255', '2001:db8::1', '3fff:fff::1'],
  benchmarking: ['198.18.0.0', '198.19.255.255', '2001:2::1'],
  embedded: [
    '::ffff:8.8.8.8',
    '::ffff:7f00:1',
    '::127.0.0.1',
    '::8.8.8.8',
    '::ffff:0:8.8.8.8',
    '64:ff9b::8.8.8.8',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    '2002:808:808::1',
    '2001::1',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2600::5efe:8.8.8.8',
    '2600::200:5efe:10.0.0.1',
    '192.88.99.1',
  ],
  reserved: [
    '192.0.0.1',
    '240.0.0.0',
    '255.255.255.254',
    '64:ff9b:1::1',
    '100::1',
    '100:0:0:1::1',
    '2001:1ff::1',
    '5f00::1',
    '4000::1',
    '8000::1',
    'fe00::1',
    '1::1',
  ],
};
const cases = Object.entries(classes).flatMap(([name, list]) => list.map((address) => [address, name] as const));
test.each(cases)('%s is %s', (address, expected) => {
  const bytes = addressBytes(address);
  expect(bytes === undefined ? undefined : classOfAddress(bytes)).toBe(expected);
});

const within: readonly (readonly [string, readonly string[]])[] = [
  ['::ffff:127.0.0.1', ['127.0.0.1']],
  ['::ffff:7f00:1', ['127.0.0.1']],
  ['::10.0.0.1', ['10.0.0.1']],
  ['::ffff:0:10.0.0.1', ['10.0.0.1']],
  ['64:ff9b::a9fe:a9fe', ['169.254.169.254']],
  ['2002:a9fe:a9fe::1', ['169.254.169.254']],
  ['2001:0:a00:1::80ff:fffe', ['10.0.0.1', '127.0.0.1']],
  ['2600::5efe:10.0.0.1', ['10.0.0.1']],
  ['::1', []],
  ['::', []],
  ['2606:4700::1111', []],
  ['8.8.8.8', []],
];
test.each(within)('%s carries %j', (address, expected) => {
  const found = embeddedAddresses(addressBytes(address) ?? new Uint8Array());
  expect(found.map((bytes) => bytes.join('.'))).toEqual(expected);
});

test.each([
  '',
  'a',
  '1.2.3',
  '1.2.3.4.5',
  '01.2.3.4',
  '0x7f.0.0.1',
  '256.0.0.1',
  'fe80::1%eth0',
  ':::',
  '::1::',
  '1:2:3:4:5:6:7:8:9',
  '[::1]',
  ' 1.2.3.4',
])('%j is no address', (text) => {
  expect(addressBytes(text)).toBeUndefined();
});

test('ranges hold what the BlockList of Node holds', () => {
  const v4 = fc.ipV4();
  const v6 = fc.ipV6();
  fc.assert(
    fc.property(fc.oneof(fc.tuple(v4, v4, fc.nat(32)), fc.tuple(v6, v6, fc.nat(128))), ([range, address, bits]) => {
      const [family, list] = [range.includes(':') ? 'ipv6' : 'ipv4', new BlockList()] as const;
      const near = bits > 2 && address.length % 2 === 0 ? range : address;
      list.addSubnet(range, bits, family);
      const bytes = addressBytes(near);
      if (bytes === undefined) throw new Error(near);
      expect(isIn(parseRange(`${range}/${bits}`), bytes)).toBe(list.check(near, family));
    }),
    { numRuns: 1000 },
  );
});

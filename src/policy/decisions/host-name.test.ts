import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { hostsOverlap, matchesHost, readHost } from './host-name.ts';

const read: readonly (readonly [string, string])[] = [
  ['a.example', 'name a.example'],
  ['A.EXAMPLE', 'name a.example'],
  ['a.example.', 'name a.example'],
  ['xn--bcher-kva.example', 'name xn--bcher-kva.example'],
  ['localhost', 'name localhost'],
  ['127.0.0.1', 'address 127.0.0.1'],
  ['127.0.0.1.', 'address 127.0.0.1'],
  ['127.1', 'address 127.0.0.1'],
  ['127.0.1', 'address 127.0.0.1'],
  ['2130706433', 'address 127.0.0.1'],
  ['0x7f.1', 'address 127.0.0.1'],
  ['0X7F000001', 'address 127.0.0.1'],
  ['0177.0.0.1', 'address 127.0.0.1'],
  ['0', 'address 0.0.0.0'],
  ['0x', 'address 0.0.0.0'],
  ['0.0.0.0', 'address 0.0.0.0'],
  ['0251.0376.0251.0376', 'address 169.254.169.254'],
  ['0xa9fea9fe', 'address 169.254.169.254'],
  ['2852039166', 'address 169.254.169.254'],
  ['169.254.43518', 'address 169.254.169.254'],
  ['4294967295', 'address 255.255.255.255'],
  ['::1', 'address ::1'],
  ['[::]', 'address ::'],
  ['[::FFFF:127.0.0.1]', 'address ::ffff:127.0.0.1'],
  ['[64:ff9b::7f00:1]', 'address 64:ff9b::7f00:1'],
  ['[2002:7f00:1::]', 'address 2002:7f00:1::'],
  ['', 'bad'],
  ['.', 'bad'],
  ['a..example', 'bad'],
  ['a.example..', 'bad'],
  ['.a.example', 'bad'],
  ['4294967296', 'bad'],
  ['256.1.1.1', 'bad'],
  ['1.2.3.4.5', 'bad'],
  ['09.1', 'bad'],
  ['a.1', 'bad'],
  ['a.0x1g', 'name a.0x1g'],
  ['[fe80::1%eth0]', 'bad'],
  ['fe80::1%lo', 'bad'],
  ['[::1', 'bad'],
  ['[127.0.0.1]', 'bad'],
  ['a。example', 'bad'], // U+3002, which IDNA takes for a dot
  ['a．example', 'bad'], // U+FF0E
  ['a｡example', 'bad'], // U+FF61
  ['bücher.example', 'bad'],
  ['ⓐ.example', 'bad'],
  ['%61.example', 'bad'],
  ['127%2e0%2e0%2e1', 'bad'],
  ['a.example@evil.example', 'bad'],
  ['a.example:80', 'bad'],
  ['a.example/', 'bad'],
  ['a.example\\', 'bad'],
  ['a_b.example', 'bad'],
  ['-a.example', 'bad'],
  ['a.example\u0000', 'bad'],
  ['a.example\n', 'bad'],
  [' a.example', 'bad'],
  ['a\u00ad.example', 'bad'],
  [`${'a'.repeat(64)}.example`, 'bad'],
  [`${'a.'.repeat(126)}aaa`, 'bad'],
];
test.each(read)('a host is read in one way: %j -> %s', (text, expected) => {
  const host = readHost(text);
  const found =
    host.kind === 'name' ? `name ${host.name}` : host.kind === 'address' ? `address ${host.address}` : 'bad';
  expect(found).toBe(expected);
});

test('what is read agrees with the URL standard, wherever that takes it for the same host', () => {
  const char = fc.constantFrom('0', '1', '7', '8', '9', 'a', 'f', 'x', '.', '-', ':', '%', '[', ']', 'A');
  fc.assert(
    fc.property(fc.string({ unit: char, maxLength: 16 }), (text) => {
      const host = readHost(text);
      if (host.kind === 'bad' || !URL.canParse(`http://${text}/`) || text.includes(':')) return;
      const { hostname } = new URL(`http://${text}/`);
      expect(hostname.replace(/\.$/, '')).toBe(host.kind === 'name' ? host.name : host.address);
    }),
    { numRuns: 2000 },
  );
});

const patterns: readonly (readonly [string, string, boolean])[] = [
  ['a.example', 'a.example', true],
  ['a.example', 'b.a.example', false],
  ['*.example', 'a.example', true],
  ['*.example', 'a.b.example', false],
  ['*.example', 'example', false],
  ['**.example', 'a.b.example', true],
  ['**.example', 'example', false],
  ['**.example', 'xexample', false],
  ['*.a.example', 'x.evil.example', false],
];
test.each(patterns)('the pattern %s names %s: %s', (pattern, name, expected) => {
  expect(matchesHost(pattern, name)).toBe(expected);
});

test('two patterns overlap when one name fits both', () => {
  const label = fc.constantFrom('a', 'b');
  const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
  const pattern = fc.tuple(fc.constantFrom('', '*.', '**.'), name).map((parts) => parts.join(''));
  const all = ['a', 'b'].flatMap((one) => [one]);
  const names = [1, 2, 3, 4, 5, 6].reduce<string[][]>(
    (rows) => [...rows, (rows.at(-1) ?? []).flatMap((rest) => all.map((one) => `${one}.${rest}`))],
    [all],
  );
  const every = names.flat();
  fc.assert(
    fc.property(pattern, pattern, (a, b) => {
      const isShared = every.some((one) => matchesHost(a, one) && matchesHost(b, one));
      expect(hostsOverlap(a, b), `${a} ${b}`).toBe(isShared);
    }),
    { numRuns: 500 },
  );
});

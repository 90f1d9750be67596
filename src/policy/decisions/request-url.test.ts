import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readRequestUrl, urlBytesMax } from './request-url.ts';

const one: readonly (readonly [string, string])[] = [
  ['https://a.example', 'https a.example 443 /'],
  ['https://a.example/', 'https a.example 443 /'],
  ['HTTPS://A.Example:443/x', 'https a.example 443 /x'],
  ['http://a.example/x/', 'http a.example 80 /x/'],
  ['http://a.example:8080/x?y=%2e%2e/..//', 'http a.example 8080 /x ?y=%2e%2e/..//'],
  ['https://a.example?x', 'https a.example 443 / ?x'],
  ['https://a.example/%41%7e%2d', 'https a.example 443 /A~-'],
  ['https://a.example/a%20b%c3%a9', 'https a.example 443 /a%20b%C3%A9'],
  ['https://a.example/@scope%2fname', 'https a.example 443 /@scope%2Fname'],
  ['https://a.example/.well-known/a..b/...', 'https a.example 443 /.well-known/a..b/...'],
  ['https://[::1]:8443/x', 'https ::1 8443 /x'],
  ['http://0x7f.1/x', 'http 127.0.0.1 80 /x'],
];
test.each(one)('a URL that can be read in one way is read: %s', (text, expected) => {
  const read = readRequestUrl(text);
  if (read.kind === 'ambiguous') throw new Error(read.reason);
  const { scheme, host, port, path, query } = read.url;
  expect([scheme, host, port, path, ...(query === undefined ? [] : [`?${query}`])].join(' ')).toBe(expected);
});

const path = (text: string): string => `https://a.example${text}`;
const ambiguous: readonly (readonly [string, RegExp])[] = [
  [path('/a/../b'), /\. or \.\./],
  [path('/a/./b'), /\. or \.\./],
  [path('/..'), /\. or \.\./],
  [path('/a/%2e%2e/b'), /\. or \.\./],
  [path('/a/.%2E/b'), /\. or \.\./],
  [path('/a/%2e'), /\. or \.\./],
  [path('/a/..;x/b'), /\. or \.\./],
  [path('/a/%2e%2e%3bx/b'), /\. or \.\./],
  [path('/a/..%2fb'), /\. or \.\./],
  [path('/a%2f..%2f..%2fb'), /\. or \.\./],
  [path('/a/%ef%bc%8e%ef%bc%8e/b'), /\. or \.\./], // full-width dots
  [path('/a/%ef%bc%8fb'), /slash/], // full-width slash
  [path('//a'), /empty segment/],
  [path('/a//b'), /empty segment/],
  [path('/a%2f%2fb'), /empty segment/],
  [path('/%2fb'), /empty segment/],
  [path('/a\\b'), /backslash/],
  [path('/a%5cb'), /backslash/],
  [path('/a%00'), /control/],
  [path('/a%0d%0aHost:%20x'), /control/],
  [path('/a%7f'), /control/],
  [path('/a%c2%85'), /control/],
  [path('/a%'), /percent/],
  [path('/a%2'), /percent/],
  [path('/a%zz'), /percent/],
  [path('/?a=%'), /percent/],
  [path('/a%252e%252e'), /twice/],
  [path('/a%252fb'), /twice/],
  [path('/a%c0%af'), /UTF-8/],
  [path('/a%ff'), /UTF-8/],
  [path('/é'), /ASCII/],
  [path('/a b'), /space/],
  [path('/a\tb'), /space/],
  [path('/a\nb'), /space/],
  [path('/a#b'), /fragment/],
  [path('/?a#b'), /fragment/],
  ['https://user@a.example/', /user/],
  ['https://a.example@evil.example/', /user/],
  ['https://a.example:pw@evil.example/', /user/],
  ['https://a.example%40evil.example/', /host/],
  ['https://a.example:0/', /port/],
  ['https://a.example:65536/', /port/],
  ['https://a.example:/', /host/],
  ['https://a.example:80:80/', /host/],
  ['https://:80/', /host/],
  ['https:///x', /host/],
  ['https:/a.example/', /no http/],
  ['//a.example/', /no http/],
  ['/x', /no http/],
  ['*', /no http/],
  ['', /no http/],
  ['ftp://a.example/', /no http/],
  ['https://[fe80::1%25eth0]/', /IPv6/],
  ['https://[::1/', /host/],
  ['https://a。example/', /ASCII/],
  [path(`/${'a'.repeat(urlBytesMax)}`), /longer/],
];
test.each(ambiguous)('a URL that can be read in two ways is not read: %j', (text, why) => {
  const read = readRequestUrl(text);
  expect(read.kind === 'ambiguous' ? read.reason : `read as ${JSON.stringify(read.url)}`).toMatch(why);
});

test('what is sent on is read again as the same, and the URL standard sees no other path', () => {
  const unit = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2e',
    '%2F',
    '%5c',
    '%25',
    '%41',
    '%c3%a9',
    'a',
    ';',
    '~',
    '\\',
    '//',
    '?',
    '%',
  );
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 8 }), (parts) => {
      const read = readRequestUrl(path(`/${parts.join('')}`));
      if (read.kind === 'ambiguous') return;
      const again = readRequestUrl(path(read.url.path));
      expect(again.kind === 'url' && again.url.path).toBe(read.url.path);
      expect(new URL(path(read.url.path)).pathname).toBe(read.url.path);
    }),
    { numRuns: 3000 },
  );
});

test('no text takes long: 100,000 characters of the worst kinds within a moment', () => {
  const started = performance.now();
  for (const text of ['%2e', '/', ';', '%25', 'a', '[', ':', '@', '0.'])
    for (const prefix of ['', 'https://', 'https://a.example/', 'https://a.example/?'])
      readRequestUrl(prefix + text.repeat(100_000 / text.length));
  expect(performance.now() - started).toBeLessThan(500);
});

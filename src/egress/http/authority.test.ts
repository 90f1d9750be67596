import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTls, createServer } from 'node:tls';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { Authority } from './authority.ts';
import { listen } from './http.fixture.ts';

async function certificateFor(authority: Authority, host: string): Promise<X509Certificate> {
  return certificateIn(authority, host, true);
}

/** Unless `believed`, its dates are not held against the clock of this machine. */
async function certificateIn(authority: Authority, host: string, believed = false): Promise<X509Certificate> {
  const server = createServer({ SNICallback: (_name, done) => done(null, authority.contextOf(host)) });
  const port = await listen(server);
  const socket = connectTls({
    port,
    host: '127.0.0.1',
    servername: host,
    ca: authority.pem,
    rejectUnauthorized: believed,
  });
  await once(socket, 'secureConnect');
  const raw = socket.getPeerCertificate().raw;
  socket.destroy();
  server.close();
  return new X509Certificate(raw);
}

test('a leaf is for one name, for a day, and not yet when clocks are a little behind', async () => {
  const authority = await Authority.create();
  const leaf = await certificateFor(authority, 'a.example.test');
  expect(leaf.subjectAltName).toBe('DNS:a.example.test');
  expect(leaf.ca).toBe(false);
  expect(leaf.checkHost('a.example.test')).toBe('a.example.test');
  expect(leaf.checkHost('example.test')).toBeUndefined();
  const hours = (text: string): number => Math.round((Date.parse(text) - Date.now()) / 3_600_000);
  expect([hours(leaf.validFrom), hours(leaf.validTo)]).toEqual([-24, 24]);
  const own = new X509Certificate(authority.pem);
  expect(own.ca).toBe(true);
  expect(leaf.verify(own.publicKey)).toBe(true);
  expect([hours(own.validFrom), hours(own.validTo)]).toEqual([-3_650 * 24, 3_650 * 24]);
});

test('a name that is longer than a common name can be has a certificate too', async () => {
  const host = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.test`;
  expect((await certificateFor(await Authority.create(), host)).subjectAltName).toBe(`DNS:${host}`);
});

test('each run has an authority of its own, which another does not trust', async () => {
  const [one, other] = await Promise.all([Authority.create(), Authority.create()]);
  const leaf = await certificateFor(one, 'a.test');
  expect(leaf.verify(new X509Certificate(other.pem).publicKey)).toBe(false);
  expect(leaf.serialNumber).not.toBe((await certificateFor(one, 'b.test')).serialNumber);
});

test('a leaf is kept while it is good, and of many names only the last ones', async () => {
  let now = Date.now();
  const authority = await Authority.create(() => now);
  const first = authority.contextOf('a.test');
  expect(authority.contextOf('a.test')).toBe(first);
  now += 13 * 3_600_000;
  const second = authority.contextOf('a.test');
  expect(second).not.toBe(first);
  for (let at = 0; at < 512; at++) authority.contextOf(`${at}.test`);
  expect(authority.contextOf('a.test')).not.toBe(second);
});

test('a clock that is set by months, with a runner or between two of them, leaves what is issued good at once', async () => {
  let now = Date.now();
  const authority = await Authority.create(() => now);
  authority.contextOf('a.test');
  const next = Authority.reopen(authority.kept(), () => now);
  for (const days of [90, -90]) {
    now = Date.now() + days * 86_400_000;
    for (const each of [authority, next]) {
      const [leaf, own] = [await certificateIn(each, 'a.test'), new X509Certificate(each.pem)];
      for (const one of [leaf, own]) {
        expect(Date.parse(one.validFrom)).toBeLessThan(now);
        expect(Date.parse(one.validTo)).toBeGreaterThan(now);
      }
      expect(leaf.verify(own.publicKey)).toBe(true);
    }
  }
});

test('OpenSSL finds nothing wrong with them, however strict it is', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'glovebox-authority-'));
  try {
    const authority = await Authority.create();
    const leaf = await certificateFor(authority, 'a.test');
    writeFileSync(join(dir, 'ca.pem'), authority.pem);
    writeFileSync(join(dir, 'leaf.pem'), leaf.toString());
    const strict = ['verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'a.test'];
    const told = execFileSync('openssl', [...strict, '-CAfile', join(dir, 'ca.pem'), join(dir, 'leaf.pem')]);
    expect(told.toString()).toContain('leaf.pem: OK');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

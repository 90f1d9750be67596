import { afterEach, describe, expect, test } from 'vitest';
import { DnsServer, type Zone } from '../names/dns-server.fixture.ts';
import { Resolution } from './resolution.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function resolving(zone: Zone): Promise<{ dns: DnsServer; resolution: Resolution }> {
  const dns = await new DnsServer(zone).open();
  closing.push(() => dns.close());
  return { dns, resolution: new Resolution({ hosts: {}, resolvers: [dns.address] }) };
}

const signal = new AbortController().signal;

describe('addresses of a name', () => {
  test('all of both families, each once, IPv4 first', async () => {
    const { resolution } = await resolving(() => ['192.0.2.1', '2001:db8::1', '192.0.2.2', '192.0.2.1']);
    const found = await resolution.addresses('two.test', signal);
    expect(found).toHaveLength(3);
    expect(found.slice(0, 2).toSorted()).toEqual(['192.0.2.1', '192.0.2.2']);
    expect(found[2]).toBe('2001:db8::1');
  });

  test('a name is asked for as it is: no search domain is tried', async () => {
    const { dns, resolution } = await resolving(() => 'NXDOMAIN');
    await expect(resolution.addresses('short', signal)).rejects.toMatchObject({ kind: 'unresolvable' });
    expect(dns.asked.toSorted()).toEqual(['short A', 'short AAAA']);
  });

  test('nothing is remembered: who asks again gets the answer of then', async () => {
    const { resolution } = await resolving((_, type, times) => (type === 'A' ? [`192.0.2.${times + 1}`] : []));
    expect(await resolution.addresses('moving.test', signal)).toEqual(['192.0.2.1']);
    expect(await resolution.addresses('moving.test', signal)).toEqual(['192.0.2.2']);
  });

  test("without resolvers it is as the machine's hosts file says", async () => {
    const resolution = new Resolution({ hosts: {}, resolvers: [] });
    expect(await resolution.addresses('localhost', signal)).toContain('127.0.0.1');
  });

  test('a name server that never answers keeps nobody else waiting', async () => {
    const { dns, resolution } = await resolving((name) => (name.startsWith('silent') ? 'silence' : ['192.0.2.9']));
    const given = new AbortController();
    const silent = Array.from({ length: 64 }, (_, n) => resolution.addresses(`silent-${n}.test`, given.signal));
    const settled = Promise.allSettled(silent);
    expect(await resolution.addresses('quick.test', signal)).toEqual(['192.0.2.9']);
    given.abort();
    expect((await settled).every(({ status }) => status === 'rejected')).toBe(true);
    expect(dns.asked).toContain('quick.test A');
  });

  test('what the operator pinned to nothing has no address', async () => {
    const resolution = new Resolution({ hosts: { 'none.test': [] }, resolvers: [] });
    await expect(resolution.addresses('none.test', signal)).rejects.toMatchObject({ kind: 'unresolvable' });
    expect([resolution.pinned('none.test'), resolution.pinned('toString')]).toEqual([true, false]);
  });

  test('a resolver that refuses the connection is no answer', async () => {
    const { dns, resolution } = await resolving(() => []);
    dns.close();
    closing.splice(0);
    await expect(resolution.addresses('any.test', signal)).rejects.toMatchObject({ kind: 'unresolvable' });
  });
});

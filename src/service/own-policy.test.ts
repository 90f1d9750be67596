import { describe, expect, test } from 'vitest';
import { parsePolicy, type LoadedPolicy } from '../policy/policy.ts';
import { standardQuota } from '../store/key-row.ts';
import { refuseHostNames } from './own-policy.ts';
import { localPrincipal, type Principal } from './principal.ts';
import { WorkspaceRoots } from './workspace-roots.ts';

const owner = localPrincipal(0);
const other: Principal = {
  keyId: 'k',
  team: 'red',
  identity: 'ann',
  scopes: new Set(['run:open', 'admin']),
  policies: 'any',
  quota: standardQuota,
};

function sent(egress: string): LoadedPolicy {
  const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: sent\nimages: [base]\nfiles: { read: ["**"] }\n';
  return parsePolicy(`${head}egress: ${egress}\n`, 'the request');
}

const offering = (...destinations: string[]) => ({ roots: new WorkspaceRoots([]), destinations });
const ruleTo = (...ranges: string[]): LoadedPolicy =>
  sent(
    `{ profiles: { p: [{ id: a, host: [a.example], addresses: [${ranges.map((range) => `"${range}"`).join()}] }] } }`,
  );
const upstreamTo = (to: string): LoadedPolicy =>
  sent(`{ upstreams: [{ id: db, host: db.internal, port: 1, to: "${to}" }] }`);

describe("the network of a service's machine", () => {
  test.each<[string, LoadedPolicy, string]>([
    ['a range of its private network', ruleTo('10.0.0.0/8'), 'rule a, addresses 10.0.0.0/8'],
    ['its loopback', ruleTo('127.0.0.0/8'), 'rule a, addresses 127.0.0.0/8'],
    ['a public range, where the machine may be itself', ruleTo('203.0.113.0/24'), '203.0.113.0/24'],
    ['all there is', ruleTo('0.0.0.0/0'), '0.0.0.0/0'],
    ['the same in IPv6', ruleTo('fd00::/8'), 'fd00::/8'],
    ['a socket', upstreamTo('unix:/run/postgresql/.s.PGSQL.5432'), 'upstream db to unix:/run/postgresql/.s.PGSQL.5432'],
    ['a port of its loopback', upstreamTo('127.0.0.1:6379'), 'upstream db to 127.0.0.1:6379'],
    ['a name, which may stand for any address', upstreamTo('db.example:5432'), 'upstream db to db.example:5432'],
    ['an address of IPv6', upstreamTo('[::1]:5432'), 'upstream db to [::1]:5432'],
  ])('is not named by a policy that is sent along, though nothing uses it yet: %s', async (_, policy, named) => {
    const refused = refuseHostNames(other, policy, offering());
    await expect(refused).rejects.toMatchObject({ code: 'forbidden' });
    await expect(refused).rejects.toThrow(named);
    await expect(refused).rejects.toThrow(/egress\.sent_policies/);
    await refuseHostNames(owner, policy, offering());
  });

  test.each<[LoadedPolicy, string[]]>([
    [ruleTo('10.20.1.0/24', '10.20.0.0/16'), ['10.20.0.0/16']],
    [ruleTo('fd00:1::/32'), ['10.20.0.0/16', 'fd00::/8']],
    [upstreamTo('10.20.0.5:5432'), ['10.20.0.0/16']],
    [upstreamTo('[fd00::5]:5432'), ['fd00::/8']],
    [upstreamTo('db.example:5432'), ['db.example:5432']],
    [upstreamTo('unix:/run/pg.sock'), ['unix:/run/pg.sock']],
  ])('is, where the operator offers it', async (policy, destinations) => {
    await refuseHostNames(other, policy, offering(...destinations));
  });

  test.each<[LoadedPolicy, string[]]>([
    [ruleTo('10.0.0.0/8'), ['10.20.0.0/16']],
    [ruleTo('10.20.0.0/16', '192.168.0.0/16'), ['10.20.0.0/16']],
    [upstreamTo('10.21.0.5:5432'), ['10.20.0.0/16']],
    [upstreamTo('db.example:5433'), ['db.example:5432']],
    [upstreamTo('unix:/run/pg.sock2'), ['unix:/run/pg.sock', '0.0.0.0/0']],
    [upstreamTo('db.example:5432'), ['0.0.0.0/0']],
  ])('is not, where it offers another part of it', async (policy, destinations) => {
    await expect(refuseHostNames(other, policy, offering(...destinations))).rejects.toMatchObject({
      code: 'forbidden',
    });
  });

  test('does not matter to a policy that names what everybody reaches', async () => {
    const policy = sent(
      '{ use: [p], profiles: { p: [{ id: a, host: ["*.example.org"] }, { id: n, registry: npm }] } }',
    );
    await refuseHostNames(other, policy, offering());
  });
});

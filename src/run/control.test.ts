import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Credentials } from '../credentials/credentials.ts';
import type { Judge } from '../egress/checkpoint/judge.ts';
import { RunnerError } from '../errors.ts';
import type { Draft } from '../journal/entry.ts';
import { parsePolicy } from '../policy/policy.ts';
import type { Gateway, GatewayEvents, InnerConnection } from '../sandbox/gateway/gateway.ts';
import { errno, SocketError } from '../sandbox/gateway/socket-error.ts';
import { RunControl, type ControlParts } from './control.ts';

const parsed = parsePolicy(
  `
apiVersion: glovebox/v1
kind: Policy
name: reaching
description: Two profiles and a database.
images: [base]
files: {read: ["**"], write: ["**"]}
egress:
  profiles:
    npm: [{id: tarballs, host: [registry.example.org]}, {id: audits, host: [audits.example.org]}]
    gh: [{id: issues, host: [api.example.org], credential: token}]
credentials: {token: {source: "env:TOKEN", host: api.example.org}}
classes: {all: {egress: [npm, gh]}}
`,
  'policy.yaml',
  { taskClass: 'all' },
);

const upstream = {
  id: 'db',
  host: 'db.internal',
  port: 5432,
  to: { kind: 'tcp', host: '127.0.0.1', port: 5432 },
} as const;
const egress = { ...parsed.policy.egress, upstreams: [upstream] };
const policy = { policy: { ...parsed.policy, egress } };

class Journal {
  readonly entries: Draft[] = [];
  broken = false;
  async append(entry: Draft): Promise<never> {
    if (this.broken) throw new RunnerError('journal_unavailable', 'the disk is full');
    this.entries.push(entry);
    return undefined as never;
  }
}

/** What stands behind the run: records what it is told. */
class Inside {
  readonly credentials = Credentials.open({ credentials: policy.policy.credentials, commands: {}, env: {} });
  readonly rules: Judge[] = [];
  readonly journal = new Journal();
  gateways = 0;
  events: GatewayEvents | undefined;

  readonly fence = {
    credentials: this.credentials,
    narrow: (rules: Judge) => void this.rules.push(rules),
    revoke: (name: string) => this.credentials.revoke(name),
    connect: (port: number) => this.connect(port),
    close: () => Promise.resolve(),
  };

  async connect(port: number): Promise<InnerConnection> {
    if (port !== 3000) throw new SocketError(errno.connectionRefused, `127.0.0.1:${port}`);
    return new PassThrough() as unknown as InnerConnection;
  }

  control(fence: ControlParts['fence']): RunControl {
    const openGateway = async (events: GatewayEvents): Promise<Gateway> => {
      this.gateways += 1;
      this.events = events;
      const gateway = { connect: (_: string, port: number) => this.connect(port), close: () => Promise.resolve() };
      return gateway as unknown as Gateway;
    };
    return new RunControl({ id: 'r', policy, sandbox: { openGateway }, journal: this.journal, fence });
  }
}

describe('an open run', () => {
  test('is narrowed by rule, profile and upstream, for good, and that is on record', async () => {
    const inside = new Inside();
    const control = inside.control(inside.fence);
    expect(control.state().egress).toEqual({ rules: ['tarballs', 'audits', 'issues', 'db'], without: [] });
    await control.narrowEgress(['audits']);
    expect(await control.narrowEgress(['gh', 'db'])).toMatchObject({
      egress: { rules: ['tarballs'], without: ['audits', 'gh', 'db'] },
    });
    const ask = (host: string) => inside.rules.at(-1)?.name(host).kind;
    expect([
      ask('registry.example.org'),
      ask('audits.example.org'),
      ask('api.example.org'),
      ask('db.internal'),
    ]).toEqual(['listed', 'unlisted', 'unlisted', 'unlisted']);
    expect(inside.journal.entries.map(({ data }) => data)).toEqual([
      { without: ['audits'] },
      { without: ['gh', 'db'] },
    ]);
  });

  test('is not narrowed by what it does not have, not even in part', async () => {
    const inside = new Inside();
    const control = inside.control(inside.fence);
    await expect(control.narrowEgress(['npm', 'typo'])).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(control.narrowEgress(['npm', 'typo'])).rejects.toThrow(
      /no profile, rule or upstream "typo"; it has tarballs, npm/,
    );
    expect(inside.rules).toEqual([]);
    await expect(inside.control(undefined).narrowEgress(['npm'])).rejects.toMatchObject({ code: 'invalid_request' });
  });

  test('has a credential revoked, and that is on record', async () => {
    const inside = new Inside();
    const control = inside.control(inside.fence);
    expect((await control.revokeCredential('token')).credentials).toEqual({ names: ['token'], revoked: ['token'] });
    expect(inside.journal.entries).toEqual([{ type: 'credential.revoked', data: { credential: 'token', cut: 0 } }]);
    await expect(control.revokeCredential('other')).rejects.toThrow(/no credential "other"; it has token/);
  });

  test('holds what was taken away even where that cannot be recorded', async () => {
    const inside = new Inside();
    inside.journal.broken = true;
    const control = inside.control(inside.fence);
    await expect(control.revokeCredential('token')).rejects.toMatchObject({ code: 'journal_unavailable' });
    await expect(control.narrowEgress(['npm'])).rejects.toMatchObject({ code: 'journal_unavailable' });
    expect(control.state()).toMatchObject({ egress: { without: ['npm'] }, credentials: { revoked: ['token'] } });
    expect(inside.rules).toHaveLength(1);
  });
});

describe('a port inside', () => {
  test('is reached through the fence, or without one through a gateway that is opened for it', async () => {
    const inside = new Inside();
    await inside.control(inside.fence).forward(3000);
    expect(inside.gateways).toBe(0);
    const alone = inside.control(undefined);
    await Promise.all([alone.forward(3000), alone.forward(3000)]);
    expect(inside.gateways).toBe(1);
    inside.events?.lost(new RunnerError('sandbox_lost', 'gone'));
    await alone.forward(3000);
    expect(inside.gateways).toBe(2);
    await alone.close();
  });

  test('where nobody listens is the mistake of who asks', async () => {
    const control = new Inside().control(undefined);
    await expect(control.forward(3001)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(control.forward(0)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(control.forward(70_000)).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

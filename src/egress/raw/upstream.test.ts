import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Network } from '../outside/network.ts';
import { checkpointOf, conversationOf, denying, TestPass } from '../checkpoint/pass.fixture.ts';
import { closed, connectedPair, freePort, listening } from '../sockets.fixture.ts';
import { carryUpstream } from './upstream.ts';

const named = { id: 'db', host: 'db.internal', port: 5432 };

test('bytes go to a unix socket or an address and come back, a half-close with them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'glovebox-upstream-'));
  const path = join(folder, 'socket');
  const local = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(path);
  const remote = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  const port = await listening(remote);
  for (const to of [{ kind: 'unix', path } as const, { kind: 'tcp', host: '127.0.0.1', port } as const]) {
    const { inner, client } = await connectedPair();
    const pass = new TestPass({ ...named, to });
    const over = carryUpstream(conversationOf(inner, named.host, named.port), {
      checkpoint: checkpointOf(pass),
      network: new Network(),
    });
    client.end('SELECT 1');
    const [answer] = (await once(client, 'data')) as [Buffer];
    expect(answer.toString()).toBe('SELECT 1');
    await over;
    expect(pass.ends).toEqual([{ kind: 'done', ...(to.kind === 'tcp' ? { address: '127.0.0.1' } : {}) }]);
    expect([pass.sentBytes, pass.receivedBytes]).toEqual([8, 8]);
  }
  local.close();
  remote.close();
  rmSync(folder, { recursive: true });
});

test('a reset by a unix socket is a reset inside', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'glovebox-upstream-'));
  const path = join(folder, 'socket');
  const local = createServer((socket) => socket.once('data', () => socket.destroy())).listen(path);
  const { inner, client } = await connectedPair();
  const pass = new TestPass({ ...named, to: { kind: 'unix', path } });
  const over = carryUpstream(conversationOf(inner, named.host, named.port), {
    checkpoint: checkpointOf(pass),
    network: new Network(),
  });
  client.write('SELECT 1');
  client.resume();
  await once(client, 'end').then(() => client.end());
  await over;
  local.close();
  rmSync(folder, { recursive: true });
});

test('where nobody listens, and where no rule allows it, the connection is reset', async () => {
  const to = { kind: 'tcp', host: '127.0.0.1', port: await freePort() } as const;
  const pass = new TestPass({ ...named, to });
  for (const checkpoint of [checkpointOf(pass), denying, checkpointOf(new TestPass())]) {
    const { inner, client } = await connectedPair();
    const gone = closed(client.resume());
    await carryUpstream(conversationOf(inner, named.host, named.port), { checkpoint, network: new Network() });
    await gone;
    expect(client.errored).toMatchObject({ code: 'ECONNRESET' });
  }
  expect(pass.ends).toMatchObject([{ kind: 'refused' }]);
});

import { afterEach, describe, expect, test } from 'vitest';
import { NameListeners, type ListenerGateway, type NameListenersOptions } from './name-listeners.ts';
import { until } from '../sockets.fixture.ts';

/** Ports of loopback inside, as far as listening goes: an address is taken once, and what a tool has bound is taken. */
class Gateway implements ListenerGateway {
  readonly open = new Map<number, string>();
  readonly taken = new Set<string>();
  #number = 0;

  listen(_: 'tcp', address: string, port: number): Promise<number> {
    const where = `${address}:${port}`;
    const inUse = this.taken.has(where) || this.taken.has(`*:${port}`) || [...this.open.values()].includes(where);
    if (inUse) return Promise.reject(Object.assign(new Error('in use'), { code: 'EADDRINUSE' }));
    this.open.set(++this.#number, where);
    return Promise.resolve(this.#number);
  }

  unlisten(listener: number): void {
    this.open.delete(listener);
  }

  get places(): string[] {
    return [...this.open.values()].toSorted();
  }
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function opened(options: NameListenersOptions = {}): { gateway: Gateway; listeners: NameListeners } {
  const gateway = new Gateway();
  const listeners = new NameListeners(gateway, options);
  closing.push(() => listeners.close());
  return { gateway, listeners };
}

function listenerAt(gateway: Gateway, place: string): number {
  return [...gateway.open].find(([, where]) => where === place)?.[0] ?? -1;
}

describe('addresses', () => {
  test('each name has its own, for all of its ports, and keeps it', async () => {
    const { gateway, listeners } = opened();
    expect(await listeners.ensure('a.test', [80, 443, 443])).toBe('127.64.0.1');
    expect(await listeners.ensure('b.test', [443])).toBe('127.64.0.2');
    expect(await listeners.ensure('a.test', [80, 443])).toBe('127.64.0.1');
    expect(gateway.places).toEqual(['127.64.0.1:443', '127.64.0.1:80', '127.64.0.2:443']);
    expect(listeners.nameOf('127.64.0.2')).toBe('b.test');
  });

  test('questions that come at once open one set of listeners', async () => {
    const { gateway, listeners } = opened();
    const all = await Promise.all(Array.from({ length: 20 }, () => listeners.ensure('a.test', [80, 443])));
    expect(new Set(all)).toEqual(new Set(['127.64.0.1']));
    expect(gateway.open.size).toBe(2);
  });

  test('1,000 names have 1,000 addresses of 127.64.0.0/10, none of which ends in 0 or 255', async () => {
    const { listeners } = opened({ listenersMax: 1_000 });
    const all = await Promise.all(Array.from({ length: 1_000 }, (_, at) => listeners.ensure(`n${at}.test`, [443])));
    expect(new Set(all).size).toBe(1_000);
    for (const address of all) expect(address).toMatch(/^127\.64\.[0-3]\.(?!0$|255$)\d+$/);
  });

  test('what a tool has bound is left to it: the name gets another address', async () => {
    const { gateway, listeners } = opened();
    gateway.taken.add('127.64.0.1:443');
    expect(await listeners.ensure('a.test', [80, 443])).toBe('127.64.0.2');
    expect(gateway.places).toEqual(['127.64.0.2:443', '127.64.0.2:80']);
  });

  test('a tool that has a port on every address keeps it; the other ports are listened on', async () => {
    const { gateway, listeners } = opened();
    gateway.taken.add('*:80');
    const address = await listeners.ensure('a.test', [80, 443]);
    expect(gateway.places).toEqual([`${address}:443`]);
    gateway.taken.clear();
    expect(await listeners.ensure('a.test', [80, 443])).toBe(address);
    expect(gateway.places).toEqual([`${address}:443`, `${address}:80`]);
    gateway.taken.add('*:8080');
    await expect(listeners.ensure('b.test', [8080])).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});

describe('being idle', () => {
  const quick = { idleMs: 40, graceMs: 0 };

  test('listeners close when nobody uses them, and open again at the same address', async () => {
    const { gateway, listeners } = opened(quick);
    const address = await listeners.ensure('a.test', [443]);
    await until(() => gateway.open.size === 0, 'they close');
    expect(await listeners.ensure('a.test', [443])).toBe(address);
    expect(gateway.places).toEqual([`${address}:443`]);
  });

  test('never under a connection', async () => {
    const { gateway, listeners } = opened(quick);
    const [a, b] = [await listeners.ensure('a.test', [443]), await listeners.ensure('b.test', [443])];
    const held = listeners.hold(listenerAt(gateway, `${a}:443`));
    expect(held).toMatchObject({ host: 'a.test', port: 443 });
    await until(() => !gateway.places.includes(`${b}:443`), 'the other one closes');
    expect(gateway.places).toEqual([`${a}:443`]);
    held?.release();
    held?.release();
    await until(() => gateway.open.size === 0, 'it closes when the connection is over');
  });

  test('a connection that crosses the closing of its listener still finds its name, for a while', async () => {
    const { gateway, listeners } = opened(quick);
    const listener = listenerAt(gateway, `${await listeners.ensure('a.test', [443])}:443`);
    await until(() => gateway.open.size === 0, 'it closes');
    expect(listeners.hold(listener)).toMatchObject({ host: 'a.test' });
    await until(() => listeners.hold(listener) === undefined, 'it is forgotten');
    expect(listeners.hold(4711)).toBeUndefined();
  });
});

describe('bounds', () => {
  test('the listener that was idle for longest makes room; one in use or just resolved does not', async () => {
    const { gateway, listeners } = opened({ listenersMax: 2, graceMs: 0 });
    const a = await listeners.ensure('a.test', [443]);
    const held = listeners.hold(listenerAt(gateway, `${a}:443`));
    await listeners.ensure('b.test', [443]);
    const c = await listeners.ensure('c.test', [443]);
    expect(gateway.places).toEqual([`${a}:443`, `${c}:443`]);
    held?.release();
    const patient = opened({ listenersMax: 2, graceMs: 60_000 });
    await patient.listeners.ensure('a.test', [443]);
    await patient.listeners.ensure('b.test', [443]);
    await expect(patient.listeners.ensure('c.test', [443])).rejects.toThrow('too many');
    expect(patient.gateway.open.size).toBe(2);
  });

  test('questions for many names at once never open more than the bound', async () => {
    const { gateway, listeners } = opened({ listenersMax: 5 });
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, (_, at) => listeners.ensure(`n${at}.test`, [80, 443])),
    );
    expect(gateway.open.size).toBeLessThanOrEqual(5);
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0);
  });

  test('names without listeners are forgotten before there are too many', async () => {
    const { listeners } = opened({ listenersMax: 1, graceMs: 0 });
    for (let at = 0; at < 4_200; at++) await listeners.ensure(`n${at}.test`, [443]);
    expect(listeners.nameOf('127.64.0.1')).toBeUndefined();
  });

  test('after the end nothing listens', async () => {
    const { gateway, listeners } = opened();
    await listeners.ensure('a.test', [80, 443]);
    const late = listeners.ensure('b.test', [443]).catch(() => undefined);
    listeners.close();
    await late;
    expect(gateway.open.size).toBe(0);
  });
});

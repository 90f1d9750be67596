import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { isRunnerError } from '../errors.ts';
import { parseChain, policyFor, shippedPolicies } from './policy.ts';

/** Nothing that is written crashes the loader, and nothing that it does not understand is accepted in silence. */
type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const shipped = shippedPolicies.map((name): Json => {
  const { extends: _, ...policy } = parse(
    readFileSync(new URL(`../../sandbox-policies/${name}.yaml`, import.meta.url), 'utf8'),
  ) as { [key: string]: Json };
  return policy;
});

/** `loads`, or what the loader says. */
function outcomeOf(value: Json): string {
  try {
    const chain = parseChain([{ text: JSON.stringify(value), source: 'p' }]);
    const [taskClass] = Object.keys(chain[0]?.file.classes ?? {});
    policyFor(chain, { taskClass }, { incomplete: true });
    return 'loads';
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy')) return error.message;
    throw error;
  }
}

/** Every place of a value, as the keys that lead to it. */
function placesOf(value: Json, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  const entries = Array.isArray(value) ? value.entries() : Object.entries(value);
  return [path, ...[...entries].flatMap(([key, member]) => placesOf(member, [...path, key]))];
}

function changed(value: Json, path: readonly (string | number)[], change: (at: Json) => Json | undefined): Json {
  const [key, ...rest] = path;
  if (key === undefined) return change(value) ?? null;
  if (Array.isArray(value)) return value.map((item, at) => (at === key ? changed(item, rest, change) : item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, name === key ? changed(member, rest, change) : member]),
  );
}

/** Where names are the writer's own, an unknown one is a name like another. */
const ownNames =
  /^(path_sets|classes|lanes|env\.set|credentials|egress\.profiles|approvals\.categories|.*max_actions_by_tag|.*set_env)$/;

test('a key that nobody knows is refused by its name, wherever it stands', () => {
  fc.assert(
    fc.property(fc.constantFrom(...shipped), fc.nat(), (policy, pick) => {
      const maps = placesOf(policy).filter((path) => {
        const at = path.reduce<Json | undefined>((one, key) => (one as { [key: string]: Json })[key], policy);
        return typeof at === 'object' && at !== null && !Array.isArray(at) && !ownNames.test(path.join('.'));
      });
      const path = maps[pick % maps.length] ?? [];
      const message = outcomeOf(
        changed(policy, path, (at) => ({ ...(at as { [key: string]: Json }), surprise: true })),
      );
      expect(message, path.join('.')).toMatch(/surprise: unknown key|surprise/);
    }),
    { numRuns: 150 },
  );
});

test('whatever stands in the place of a value: a policy, or invalid_policy with a place', () => {
  const anything = fc.oneof(
    fc.constantFrom<Json>(
      '',
      '**',
      '!**',
      '$x',
      '../x',
      -1,
      0,
      1e9,
      true,
      null,
      [],
      {},
      ['a', 'a'],
      '1GiB',
      'none',
      '\u0000',
      '__proto__',
    ),
    fc.string(),
    fc.array(fc.string(), { maxLength: 3 }),
    fc.integer(),
  );
  fc.assert(
    fc.property(fc.constantFrom(...shipped), fc.nat(), anything, (policy, pick, noise) => {
      const places = placesOf(policy);
      const message = outcomeOf(changed(policy, places[pick % places.length] ?? [], () => noise));
      expect(message === 'loads' || message.startsWith('p')).toBe(true);
    }),
    { numRuns: 300 },
  );
});

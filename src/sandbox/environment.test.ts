import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { callEnvironment } from './environment.ts';

const names = fc.constantFrom('A', 'PATH', 'TERM', 'LC_ALL', 'GIT_CONFIG_COUNT', 'HOME0', 'HOM', 'ZZ', 'aa', '_', 'É');
const variables = fc.dictionary(
  names,
  fc.string({ maxLength: 4 }).filter((value) => !value.includes('\0')),
);
const nameOf = (variable: string): string => variable.slice(0, variable.indexOf('='));

describe('the environment of a command', () => {
  test('is sorted, has each name once, and of each the value of the call where it has one', () => {
    const defaults = new Map(callEnvironment({}).map((variable) => [nameOf(variable), variable]));
    fc.assert(
      fc.property(variables, (env) => {
        const given = Object.entries(env).map(([name, value]) => [name, `${name}=${value}`] as const);
        const wanted = [...new Map([...defaults, ...given]).values()];
        expect(callEnvironment({ env })).toEqual(wanted.toSorted());
      }),
    );
  });
});

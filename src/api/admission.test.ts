import { expect, test } from 'vitest';
import { Admission } from './admission.ts';

test.each([
  ['requests', false],
  ['streams', true],
])('of all %s one team has half at most, with however many keys', (_, lasting) => {
  const admission = new Admission({ requestsMax: 4, requestsPerKeyMax: 2, streamsMax: 4, streamsPerKeyMax: 2 });
  const enter = (keyId: string, team: string): (() => void) => admission.enter({ keyId, team }, lasting);
  const leave = enter('k1', 'red');
  enter('k2', 'red');
  expect(() => enter('k3', 'red')).toThrow('this team has 2');
  enter('k4', 'blue');
  enter('k4', 'blue');
  expect(() => enter('k5', 'green')).toThrow('as many');
  leave();
  leave();
  enter('k3', 'red');
  expect(() => enter('k1', 'red')).toThrow();
});

import { expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { parseChain, policyFor, type Policy } from '../policy.ts';
import { reachDiff } from '../texts/reach-diff.ts';

function load(...replays: readonly string[]): Policy {
  const texts = replays.map((replay, at) => {
    const text = `apiVersion: glovebox/v1\nkind: Policy\nname: l${at}\nimages: [base]\nfiles: {read: ["**"]}\n${replay}\n`;
    return { text, source: `${at}.yaml` };
  });
  return policyFor(parseChain(texts), {}).policy;
}

function refusal(...replays: readonly string[]): string {
  try {
    load(...replays);
    return 'no error';
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy')) return error.message;
    throw error;
  }
}

test('noise is what all layers call so that name some; the network is there if one grants it and none refuses', () => {
  expect(load('')).not.toHaveProperty('replay');
  expect(load('replay: {noise: [a, b+]}', '', 'replay: {noise: [b+]}').replay).toEqual({
    noise: ['b+'],
    network: false,
  });
  expect(load('replay: {noise: []}').replay?.noise).toEqual([]);
  expect(load('replay: {network: true}', 'replay: {noise: [a]}').replay).toEqual({ noise: ['a'], network: true });
  expect(load('replay: {network: true}', 'replay: {network: false}').replay?.network).toBe(false);
});

test('a layer that is more lenient than one above does not load, and neither does what is no expression of RE2', () => {
  expect(refusal('replay: {noise: [a]}', 'replay: {noise: [a, b]}')).toContain('0.yaml names what is noise');
  expect(refusal('replay: {network: false}', 'replay: {network: true}')).toContain('0.yaml refuses it');
  expect(refusal('replay: {noise: ["(?=a)"]}')).toContain('not an expression of RE2');
  expect(refusal('replay: {noise: ["x*"]}')).toContain('fits nothing at all');
  expect(refusal('replay: {noise: ["(abc){500}"]}')).toContain('too large');
  expect(refusal('replay: {noises: [a]}')).toContain('noise');
});

test('a reader is told that a policy looks past more than it did', () => {
  const { gained, lost } = reachDiff(load(''), load('replay: {noise: [a], network: true}'));
  expect(gained).toEqual([
    'count as replayed although there differs a',
    'count as replayed although there differs what servers outside answer',
  ]);
  expect(lost).toEqual([]);
});

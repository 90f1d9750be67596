import { describe, expect, test } from 'vitest';
import { idPattern, newId } from './ids.ts';

describe('an id', () => {
  test('begins with its time, so that later ones come after it', () => {
    const times = [0, 1, 31, 32, 1_700_000_000_000, 1_700_000_000_001];
    const ids = times.map((ms) => newId(ms));
    expect(ids.toSorted()).toEqual(ids);
    for (const id of ids) expect(id).toMatch(idPattern);
  });

  test('is random in each of its last 16 characters', () => {
    const ids = Array.from({ length: 2_000 }, () => newId(0));
    expect(new Set(ids).size).toBe(ids.length);
    for (let at = 10; at < 26; at++) expect(new Set(ids.map((id) => id[at])).size).toBe(32);
  });
});

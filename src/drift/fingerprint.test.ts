import { assert, dictionary, nat, property, string, tuple, uniqueArray } from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canonicalFingerprint,
  documentDigest,
  Fingerprint,
  fingerprintOf,
  momentSections,
  Section,
  sectionDigests,
  sectionFrom,
  sectionNames,
  sectionOf,
} from './fingerprint.ts';

const at = new Date('2026-01-02T03:04:05.678Z');
const later = new Date('2026-02-03T04:05:06.789Z');
const clock = (ms: number) => sectionFrom({ skew_ms: ms });

describe('a section', () => {
  test('has one digest in whatever order it was found', () => {
    const entries = uniqueArray(tuple(string(), string()), { selector: ([key]) => key });
    assert(
      property(entries, (found) => {
        expect(sectionOf(new Map(found))).toEqual(sectionOf(new Map([...found].reverse())));
      }),
    );
  });

  test('is what it was after it was written and read, whatever its keys and values are', () => {
    const text = string({ unit: 'binary', maxLength: 700 });
    assert(
      property(dictionary(text, text), nat(3), (found, shown) => {
        const section = sectionOf(new Map(Object.entries(found)), shown);
        expect(Section.parse(JSON.parse(JSON.stringify(section)))).toEqual(section);
      }),
    );
    const odd = sectionOf(new Map([['__proto__', 'x']]));
    expect(Section.parse(JSON.parse(JSON.stringify(odd)))).toEqual(odd);
  });

  test('differs when what there was no room for differs', () => {
    const [one, other] = ['1', '2'].map((last) =>
      sectionOf(
        new Map([
          ['a', 'x'],
          ['b', 'x'],
          ['c', last],
        ]),
        2,
      ),
    );
    expect(one?.evidence).toEqual(other?.evidence);
    expect(one?.more).toBe(1);
    expect(one?.digest).not.toBe(other?.digest);
  });

  test('differs when long texts differ after the place where they are cut', () => {
    const long = 'x'.repeat(5000);
    expect(sectionFrom({ a: `${long}1` }).digest).not.toBe(sectionFrom({ a: `${long}2` }).digest);
    expect(sectionFrom({ a: long }).evidence['a']).toHaveLength(512);
  });

  test('leaves out what could not be found out, which is another thing than nothing', () => {
    expect(sectionFrom({ a: undefined, b: '' }).evidence).toEqual({ b: '' });
  });

  test('that holds something else than its digest says is refused', () => {
    const section = sectionFrom({ a: 1 });
    expect(Section.safeParse({ ...section, evidence: { a: '2' } }).success).toBe(false);
    expect(Section.safeParse({ ...section, more: 1 }).success).toBe(false);
    expect(Section.safeParse({ ...section, more: 1, rest: section.digest }).success).toBe(false);
  });
});

describe('a fingerprint', () => {
  test('of one environment has one digest at every moment, and every moment its own document', () => {
    const kernel = sectionFrom({ release: '6.1' });
    const one = fingerprintOf('sandbox', at, { kernel, clock: clock(3) });
    const other = fingerprintOf('sandbox', later, { clock: clock(7), kernel });
    expect(one.digest).toBe(other.digest);
    expect(documentDigest(one)).not.toBe(documentDigest(other));
  });

  test.each(sectionNames.filter((name) => !momentSections.has(name)))(
    'has another digest when %s is another',
    (name) => {
      const [one, other, without] = [{ [name]: clock(1) }, { [name]: clock(2) }, {}].map((sections) =>
        fingerprintOf('sandbox', at, sections),
      );
      expect(new Set([one?.digest, other?.digest, without?.digest]).size).toBe(3);
    },
  );

  test('has one text, which parses to what it was', () => {
    const one = fingerprintOf('host', at, { kernel: sectionFrom({ release: '6.1' }), clock: clock(1) });
    expect(Fingerprint.parse(JSON.parse(canonicalFingerprint(one)))).toEqual(one);
    expect(canonicalFingerprint(Fingerprint.parse(one))).toBe(canonicalFingerprint(one));
    expect(sectionDigests(one.sections)).toEqual({
      kernel: one.sections.kernel?.digest,
      clock: one.sections.clock?.digest,
    });
  });

  test('with an unknown section, an unknown key or another digest is refused', () => {
    const one = fingerprintOf('sandbox', at, { kernel: sectionFrom({ release: '6.1' }) });
    expect(Fingerprint.safeParse({ ...one, sections: { ...one.sections, weather: clock(1) } }).success).toBe(false);
    expect(Fingerprint.safeParse({ ...one, note: '' }).success).toBe(false);
    expect(Fingerprint.safeParse({ ...one, sections: {} }).success).toBe(false);
  });
});

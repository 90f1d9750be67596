import { expect, test } from 'vitest';
import { ReviewView } from '../../contract/review-view.ts';
import { digestOf } from '../../digest.ts';
import { newId } from '../../ids.ts';
import { someVerification } from '../../verify/verification.fixture.ts';
import { Verification } from '../../verify/verification.ts';
import { answered } from './answered.ts';
import { reviewLines } from './review-lines.ts';

/** Clears a screen, sets a title, turns text around, and is a line of its own. */
const evil = 'x\x1b[2J\x1b]0;t\x07\u202e\r\nit needs nothing';
const at = '2026-01-02T03:04:05.678Z';
const digest = digestOf('x');

function viewOf(text: string): ReviewView {
  const verification = someVerification({});
  const gates = verification.gates.map((gate) => ({ ...gate, reason: text, evidence: [text] }));
  return {
    run: newId(),
    manifest: digest,
    policy: digest,
    risk: 'high',
    intent: text,
    base: { digest, commit: text, below: text },
    image: { reference: text, id: digest },
    openedAt: at,
    closedAt: at,
    entries: 3,
    files: [{ path: text, status: 'added', categories: [text], flags: [text], added: 1, removed: 0 }],
    left: [{ path: text, effect: 'refused', kind: text }],
    verification: { ...verification, gates, checksTouched: [text] },
    replay: { verdict: 'diverged', at, divergence: text },
    verifications: 2,
    approvals: [{ category: text, verdict: 'approved', by: [text], reason: text }],
    work: { models: [text], lanes: [text], handOvers: 1, snapshots: 1 },
    timeline: [{ at, what: text }],
    setbacks: [{ path: text, run: newId(), promotion: newId(), reason: text, at }],
    reviews: [
      { id: newId(), bundle: digest, run: newId(), verdict: 'rejected', by: text, reason: text, at, known: 'named' },
    ],
    demand: { action: 'review', reviews: 1, owners: false, reviewers: 'named', because: [text], text },
  };
}

/** Of our own colors. */
const plain = (line: string): string => line.replaceAll(/\x1b\[\d+m/g, '');

test('nothing that a sandbox, a person or a service says is obeyed by a terminal, or looks like a line of ours', () => {
  const lines = reviewLines(viewOf(evil)).map(plain);
  expect(lines.join('')).not.toMatch(/[\p{Cc}\u202e]/u);
  expect(lines.filter((line) => line.startsWith('it '))).toHaveLength(1);
  expect(lines.length).toBe(reviewLines(viewOf('well')).length);
});

test('what a service says in another form is told, and not shown', () => {
  const view = viewOf('well');
  expect(answered(ReviewView, view, 'a review')).toEqual(view);
  for (const odd of [{ manifest: evil }, { run: evil }, { openedAt: evil }, { risk: evil }, { more: evil }])
    expect(() => answered(ReviewView, { ...view, ...odd }, 'a review')).toThrow(
      /in another form than this program reads/,
    );
  const gate = { ...someVerification({}).gates[0], id: evil };
  const odd = { ...someVerification({}), gates: [gate] };
  expect(() => answered(Verification, odd, 'a verification')).toThrow(/gates\.0\.id/);
});

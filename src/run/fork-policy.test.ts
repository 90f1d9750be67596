import { describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { parsePolicy } from '../policy/policy.ts';
import { Scope } from '../workspace/scope/scope.ts';
import { forkPolicy, refuseUnseen } from './fork-policy.ts';
import type { RunSnapshot } from './snapshot.ts';

const text = `apiVersion: glovebox/v1
kind: Policy
name: t
images: [base, node]
files: {read: ["**"], write: ["src/**"]}
lanes: {explore: {}, commit: {models: ["strong-*"], require_intent: true}}
classes:
  look: {lane: explore, files: {write: []}}
  ship: {lane: commit, files: {read: ["src/**"]}, images: [base]}
  fix: {lane: explore}
`;
const look = parsePolicy(text, 'p', {
  taskClass: 'look',
  intent: { summary: 'find it', risk_tags: [], model: 'quick-1' },
});

function snapshotOf(paths: readonly string[], changed: readonly string[] = []): RunSnapshot {
  const node = { kind: 'file', digest: digestOf('x'), sizeBytes: 1, mode: 0o644 } as const;
  const tree = new Map(paths.map((path) => [path, node]));
  const scopeDigest = Scope.compile(look.policy.files).digest;
  return {
    run: '01hzzzzzzzzzzzzzzzzzzzzzzz',
    policy: look,
    image: { reference: 'base', id: digestOf('image') },
    base: { tree, digest: digestOf('base'), scopeDigest, kind: 'plain' },
    changeSet: { changes: new Map(changed.map((path) => [path, node])) },
    digest: digestOf('changes'),
    scratch: false,
  };
}

describe('the policy of a fork', () => {
  test('is that of its source, where nothing else is asked for', () => {
    expect(forkPolicy({ policy: look }, {})).toBe(look);
    expect(forkPolicy({ policy: look, worker: { model: 'quick-1' } }, {})).toBe(look);
    const other = forkPolicy({ policy: look }, { intent: 'again' });
    expect(other.digest).toBe(look.digest);
    expect(other.task.intent).toMatchObject({ summary: 'again', model: 'quick-1' });
  });

  test('is that of another class in another lane, for the model that its intent names or that worked last', () => {
    const forked = forkPolicy({ policy: look }, { taskClass: 'ship', intent: { model: 'strong-2' } });
    expect(forked.policy).toMatchObject({ lane: 'commit', taskClass: 'ship' });
    expect(forked.task.intent).toMatchObject({ summary: 'find it', model: 'strong-2' });
    const later = forkPolicy({ policy: look, worker: { model: 'strong-9' } }, { taskClass: 'ship' });
    expect(later.task.intent?.model).toBe('strong-9');
  });

  test('is refused for a model that may not work there, and for a class that there is not', () => {
    expect(() => forkPolicy({ policy: look }, { taskClass: 'ship' })).toThrow(/in lane commit only strong-\*/);
    expect(() => forkPolicy({ policy: look }, { taskClass: 'shop' })).toThrow(/no task class "shop"/);
  });
});

describe('a fork for another class', () => {
  const ship = forkPolicy({ policy: look }, { taskClass: 'ship', intent: { model: 'strong-2' } });

  test('is opened where all that it would hold is for that class to see', () => {
    expect(() => refuseUnseen(snapshotOf(['src/a.ts'], ['src/b.ts']), ship)).not.toThrow();
    const fix = forkPolicy({ policy: look }, { taskClass: 'fix' });
    expect(() => refuseUnseen(snapshotOf(['README.md']), fix)).not.toThrow();
  });

  test('is refused where the base has a file that the class does not see, or an image that it may not use', () => {
    expect(() => refuseUnseen(snapshotOf(['src/a.ts', 'README.md']), ship)).toThrow(
      /cannot be forked for class ship: it has README\.md, which that class does not see/,
    );
    expect(() => refuseUnseen(snapshotOf(['src/a.ts'], ['docs/new.md']), ship)).toThrow(/it has made docs\/new\.md/);
    const gone = {
      ...snapshotOf([]),
      changeSet: { changes: new Map([['docs/old.md', { kind: 'deleted' } as const]]) },
    };
    expect(() => refuseUnseen(gone, ship), 'what is not there shows nothing').not.toThrow();
    const image = { reference: 'node', id: digestOf('node') };
    expect(() => refuseUnseen({ ...snapshotOf([]), image }, ship)).toThrow(/it has image node/);
  });
});

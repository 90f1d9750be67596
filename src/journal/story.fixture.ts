import { canonicalJson, digestOf } from '../digest.ts';
import { firstPrev, formatEntry, sealEntry } from './chain.ts';
import type { Draft, Entry, EntryData } from './entry.ts';

/** Journals to test with: made without a disk, and the same every time. */
export const run = '01hzzzzzzzzzzzzzzzzzzzzzzz';
const sandbox = '01hyyyyyyyyyyyyyyyyyyyyyyy';
const digest = digestOf('x');
const effective = { name: 'test', files: { read: ['**'] } };

export const opened: Draft = {
  type: 'run.opened',
  data: {
    intent: 'make the tests pass',
    policy: { name: 'test', digest: digestOf(canonicalJson(effective)), effective },
    image: { reference: 'base', id: digest },
    engine: { kind: 'fake', version: '1', runtime: 'runc', factsDigest: digest },
    limits: { memoryBytes: 1024, cpus: 1.5 },
    versions: { node: 'v20' },
  },
};

export const started: Draft = {
  type: 'sandbox.started',
  data: {
    sandbox,
    container: 'c0ffee',
    specDigest: digest,
    workspace: { digest, files: 2, directories: 1, symlinks: 0, bytes: 10 },
  },
};

export function intended(callId: string, count = 1): { type: 'call.intended'; data: EntryData<'call.intended'> } {
  return {
    type: 'call.intended',
    data: { callId, tool: 'exec', arguments: { script: 'echo' }, argsDigest: digest, count },
  };
}

export function ended(callId: string): Draft {
  const output = { bytes: 3, digest, ref: `calls/${callId}` };
  return {
    type: 'call.ended',
    data: { callId, outcome: { kind: 'exited', code: 0 }, exitCode: 0, ms: 1.25, cpuMs: 1, output },
  };
}

export function denied(callId: string): Draft {
  return {
    type: 'call.denied',
    data: { callId, tool: 'write', rule: 'files.write', reason: 'outside the write scope' },
  };
}

const collected: Draft = {
  type: 'workspace.collected',
  data: { digest, added: 1, modified: 0, deleted: 0, bytes: 3, findings: { symlink_escape: 1 } },
};

export function attached(number: number, said: Partial<EntryData<'context.attached'>> = {}): Draft {
  const data = { number, digest: digestOf(`context ${number}`), bytes: 90, version: number, at: 'other' } as const;
  const summary = 'the parser drops the last line; next: fix read()';
  return { type: 'context.attached', data: { ...data, summary, sources: 1, diffs: 0, ...said } };
}

export const handedOver: Draft = {
  type: 'lane.handed_over',
  data: { from: { run, lane: 'explore', model: 'quick-1' }, to: { lane: 'commit', model: 'strong-2' } },
};

export const fingerprint: Draft = {
  type: 'environment.fingerprint',
  data: { at: 'open', digest, document: digestOf('document'), sections: { kernel: digestOf('k'), env: digestOf('e') } },
};

export const lost: Draft = {
  type: 'sandbox.lost',
  data: { sandbox, reason: 'stream ended', container: 'exited', exitCode: 137, stderrTail: 'boom\u001b[2J' },
};

export function closed(calls: number, denials = 0): Draft {
  return {
    type: 'run.closed',
    data: { outcome: 'finished', summary: 'done', calls, denied: denials, outputBytes: 6, ms: 9 },
  };
}

export function decided(id: number, decision: 'allowed' | 'denied' | 'observed' = 'allowed'): Draft {
  const asked = { host: 'registry.test', port: 443, scheme: 'https', method: 'GET', path: '/left-pad' };
  const rule = { rule: 'npm', ...(decision === 'allowed' ? {} : { reason: 'not on a weekday' }) };
  return {
    type: 'egress.decided',
    data: { id, kind: 'request', via: 'proxy', callId: 'c1', ...asked, decision, ...rule },
  };
}

export function egressEnded(id: number): Draft {
  const data = {
    id,
    result: 'done',
    address: '192.0.2.7',
    status: 200,
    sentBytes: 90,
    receivedBytes: 2048,
    ms: 31,
  } as const;
  return { type: 'egress.ended', data };
}

/** A run with this many calls, some denied, some overlapping, in the order a runner could write them. */
export function storyOf(calls: number, close = true): Draft[] {
  const story: Draft[] = [opened, started];
  let denials = 0;
  for (let n = 1; n <= calls; n++) {
    story.push(intended(`c${n}`, n));
    if (n % 3 === 0) {
      story.push(denied(`d${n}`));
      denials += 1;
    }
    if (n % 2 === 0) story.push(ended(`c${n - 1}`), ended(`c${n}`));
    else if (n === calls) story.push(ended(`c${n}`));
  }
  return close ? [...story, collected, closed(calls, denials)] : story;
}

/** As a reader has them, without a chain: for what looks at single entries. */
export function entriesOf(drafts: readonly Draft[]): readonly Entry[] {
  const zeros = `sha256:${'0'.repeat(64)}` as const;
  return drafts.map((draft, at) => {
    const common = { v: 1, seq: at + 1, at: '2026-01-01T00:00:00.000Z', mono: at, run, prev: zeros, hash: zeros };
    return { ...common, ...draft } as Entry;
  });
}

/** The lines of a whole journal, without newlines. */
export function linesOf(story: readonly Draft[], runId: string = run): string[] {
  let prev = firstPrev;
  return story.map((draft, index) => {
    const at = new Date(Date.UTC(2026, 0, 1) + index * 7).toISOString();
    const { entry } = sealEntry(draft, { seq: index + 1, prev, run: runId, at, mono: index * 7.125 });
    prev = entry.hash;
    return formatEntry(entry);
  });
}

export function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}

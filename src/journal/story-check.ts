import { canonicalJson, digestOf } from '../digest.ts';
import type { Entry } from './entry.ts';
import { EgressStory } from './egress-story.ts';
import { Findings, type Finding } from './finding.ts';

/** More calls than any policy allows in a run; a bound on what is remembered. */
const callsMax = 200_000;

/** Whether what is told makes sense: opened first, closed last, every intent with exactly one outcome. */
export class StoryCheck {
  readonly #findings = new Findings();
  /** Line of each intent that has no outcome yet. */
  readonly #open = new Map<string, number>();
  readonly #ended = new Set<string>();
  readonly #egress = new EgressStory();
  #entries = 0;
  #contexts = 0;
  calls = 0;
  denied = 0;
  closed = false;

  get findings(): readonly Finding[] {
    return this.#findings.list;
  }

  get openCalls(): readonly string[] {
    return [...this.#open.keys()];
  }

  get openEgress(): readonly number[] {
    return this.#egress.open;
  }

  push(line: number, entry: Entry): void {
    this.#entries += 1;
    if (this.closed) this.#findings.add(line, 'after_close', `${entry.type} after the run was closed`);
    if ((this.#entries === 1) !== (entry.type === 'run.opened')) {
      this.#findings.add(line, 'inconsistent', `a journal opens with run.opened, once; this is ${entry.type}`);
    }
    switch (entry.type) {
      case 'run.opened': {
        const { digest, effective } = entry.data.policy;
        if (digestOf(canonicalJson(effective)) !== digest) {
          this.#findings.add(line, 'inconsistent', 'the policy does not have the digest that is stated');
        }
        return;
      }
      case 'call.intended':
        return this.#intended(line, entry.data.callId);
      case 'call.ended':
        return this.#outcome(line, entry.data.callId);
      case 'call.denied':
        this.denied += 1;
        if (this.#open.has(entry.data.callId)) {
          this.#findings.add(line, 'inconsistent', `call ${entry.data.callId} is denied while it runs`);
        }
        return;
      case 'egress.decided':
      case 'egress.ended': {
        const odd = this.#egress.push(entry);
        if (odd !== undefined) this.#findings.add(line, 'odd_egress', odd);
        return;
      }
      case 'context.attached':
        this.#contexts += 1;
        if (entry.data.number !== this.#contexts)
          this.#findings.add(line, 'inconsistent', `context snapshot ${entry.data.number} comes as ${this.#contexts}`);
        return;
      case 'run.closed':
        this.closed = true;
        for (const id of this.#egress.open)
          this.#findings.add(line, 'odd_egress', `the run closes while egress ${id} has no end`);
        if (entry.data.calls !== this.calls || entry.data.denied !== this.denied) {
          const told = `${entry.data.calls} calls and ${entry.data.denied} denied`;
          this.#findings.add(
            line,
            'inconsistent',
            `the run closes with ${told}, there are ${this.calls} and ${this.denied}`,
          );
        }
        return;
      case 'sandbox.started':
      case 'run.resumed':
      case 'workspace.collected':
      case 'files.seen':
      case 'snapshot.taken':
      case 'snapshot.applied':
      case 'sandbox.lost':
      case 'approval.requested':
      case 'approval.decided':
      case 'risk.raised':
      case 'drift.found':
      case 'drift.held':
      case 'egress.counted':
      case 'egress.narrowed':
      case 'credential.revoked':
      case 'participant.joined':
      case 'lane.handed_over':
      case 'environment.fingerprint':
      case 'note':
      case 'journal.recovered':
        return;
    }
  }

  end(): void {
    if (!this.closed) return;
    for (const [callId, line] of this.#open) {
      this.#findings.add(line, 'unfinished_call', `the intent of call ${callId} has no outcome, and the run is closed`);
    }
  }

  #intended(line: number, callId: string): void {
    this.calls += 1;
    if (this.#open.has(callId) || this.#ended.has(callId)) {
      this.#findings.add(line, 'second_intent', `call ${callId} was intended before`);
    }
    if (this.#open.size + this.#ended.size >= callsMax) {
      if (this.calls === callsMax + 1) this.#findings.add(line, 'inconsistent', `more than ${callsMax} calls`);
      return;
    }
    this.#open.set(callId, line);
  }

  #outcome(line: number, callId: string): void {
    if (this.#open.delete(callId)) this.#ended.add(callId);
    else if (this.#ended.has(callId))
      this.#findings.add(line, 'second_outcome', `call ${callId} has an outcome already`);
    else this.#findings.add(line, 'outcome_without_intent', `no intent of call ${callId} comes before this outcome`);
  }
}

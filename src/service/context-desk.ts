import { blameFile } from '../context/blame-report.ts';
import { readContexts } from '../context/context-report.ts';
import type { ContextSnapshot } from '../context/context-snapshot.ts';
import type { BlameQuery, BlameReport } from '../contract/blame-view.ts';
import type { AttachedView, ContextView } from '../contract/context-view.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import type { Scope } from '../store/key-row.ts';
import type { Access } from './access.ts';
import type { OpenRun } from './open-run.ts';
import type { Participants } from './participants.ts';
import type { Principal } from './principal.ts';

interface ContextDeskParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  readonly service: {
    readonly access: Pick<Access, 'find'>;
    readonly dataDir: DataDir;
    find(principal: Principal, runId: string, scope: Scope): OpenRun;
  };
  readonly participants: Pick<Participants, 'joinByCall'>;
}

/** What agents believed and what they wrote, of the runs of a service. Whoever says it has a part in the run, as whoever calls. */
export class ContextDesk {
  readonly #parts: ContextDeskParts;

  constructor(parts: ContextDeskParts) {
    this.#parts = parts;
  }

  async attach(principal: Principal, runId: string, snapshot: ContextSnapshot): Promise<AttachedView> {
    const { ask, service, participants } = this.#parts;
    ask(principal, 'call');
    const entry = service.find(principal, runId, 'call');
    participants.joinByCall(principal, entry);
    return entry.run.attachContext(snapshot, principal.identity);
  }

  async read(principal: Principal, runId: string, callId: string | undefined): Promise<ContextView> {
    const { ask, service } = this.#parts;
    ask(principal, 'read');
    return readContexts(service.dataDir.runDir(service.access.find(principal, runId).id), callId);
  }

  /** Of an open run as its files were last looked at. Throws `not_found` for a file that is not there. */
  async blame(principal: Principal, runId: string, asked: BlameQuery): Promise<BlameReport> {
    const { ask, service } = this.#parts;
    ask(principal, 'read');
    return blameFile(service.dataDir, service.dataDir.runDir(service.access.find(principal, runId).id), asked);
  }
}

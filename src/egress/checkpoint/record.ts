/** Where decisions go before they have an effect, and how what passed has ended. */
export interface EgressRecord {
  /** Resolves once it is written. Rejects: then nothing passes. Entries are ordered as called. */
  decided(entry: EgressDecided): Promise<void>;
  ended(entry: EgressEnded): Promise<void>;
  /** Refusals that were only counted, told at the end of a run. */
  counted(entry: EgressCounted): Promise<void>;
}

export interface EgressDecided {
  /** 1, 2, 3 ... in a run. */
  readonly id: number;
  readonly kind: 'name' | 'connection' | 'request';
  readonly via: 'name' | 'proxy';
  readonly callId?: string;
  readonly host: string;
  readonly port?: number;
  readonly scheme?: string;
  readonly method?: string;
  /** Without its query. */
  readonly path?: string;
  readonly rule?: string;
  /** `observed`: it would have been refused. Of `denied` ones and of names nothing more is told. */
  readonly decision: 'allowed' | 'denied' | 'observed';
  readonly reason?: string;
}

export type EgressResult = 'done' | 'denied' | 'unresolvable' | 'refused' | 'timed_out' | 'cut';

export interface EgressEnded {
  readonly id: number;
  readonly result: EgressResult;
  /** What was dialled. Absent where nothing was, or where a proxy of the operator resolved the name. */
  readonly address?: string;
  /** HTTP status of the answer. */
  readonly status?: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly ms: number;
  readonly reason?: string;
}

export interface EgressCounted {
  readonly host: string;
  readonly reason: string;
  readonly rule?: string;
  readonly count: number;
}

import type { Logger } from 'pino';
import type { Metrics } from './metrics.ts';

/** How what happens is seen from outside. */
export interface Watch {
  readonly log: Pick<Logger, 'info' | 'warn' | 'error' | 'debug'>;
  readonly metrics: Metrics;
}

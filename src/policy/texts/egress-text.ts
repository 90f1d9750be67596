import { ruleText } from '../decisions/egress-rules.ts';
import type { EffectiveEgressRule, Upstream } from '../layers/effective-egress.ts';
import { sizeText, timeText } from './units-text.ts';

/** A rule of egress, whole: `GET, HEAD https://host /**, with gh, 16KiB out`. */
export function egressRuleText(rule: EffectiveEgressRule): string {
  const { addresses, maxSentBytes, maxReceivedBytes, maxRequests, timeoutMs } = rule;
  return [
    reachText(rule),
    ...(addresses.length === 0 ? [] : [`at ${addresses.join(', ')} too`]),
    `${sizeText(maxSentBytes)} out and ${sizeText(maxReceivedBytes)} in within ${timeText(timeoutMs)}`,
    `${maxRequests} times`,
  ].join('; ');
}

/** What of it is reach, without its bounds. */
export function reachText(rule: EffectiveEgressRule): string {
  const { credential, websocket, allowEncodedSlash } = rule;
  return [
    ruleText(rule),
    ...(credential === undefined ? [] : [`with ${credential}`]),
    ...(websocket ? ['WebSocket too'] : []),
    ...(allowEncodedSlash ? ['%2F too'] : []),
  ].join('; ');
}

export function upstreamText({ host, port, to }: Upstream): string {
  return `${host}:${port} -> ${to.kind === 'unix' ? `unix:${to.path}` : `${to.host}:${to.port}`}`;
}

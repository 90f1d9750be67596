import type { ConnectionDecision, EgressDecision, EgressRequest, EgressRules } from './egress-rules.ts';
import { readRequestUrl } from './request-url.ts';

/** What policies' own tests and `policy why` ask: `tcp://host:port` asks for a connection; HTTP is asked for by its URL. */
export function answerEgress(
  rules: EgressRules,
  request: EgressRequest,
): EgressDecision | Extract<ConnectionDecision, { kind: 'upstream' }> {
  const place = tcpPlace(request);
  if (place === undefined) return rules.decide(request);
  const found = rules.connection(place);
  if (found.kind === 'pass_through') return { kind: 'allowed', rule: found.rule };
  if (found.kind !== 'terminate' && found.kind !== 'plain') return found;
  const reason = `${place.host}:${place.port} is asked for by URL: there, requests are judged, not connections`;
  return { kind: 'unlisted', id: 'egress.profiles', reason };
}

/** For the hint that goes with a refusal. */
export function placeOf(request: EgressRequest): { readonly host: string; readonly port?: number } {
  const read = readRequestUrl(String(request.url));
  return tcpPlace(request) ?? (read.kind === 'url' ? read.url : { host: '' });
}

function tcpPlace({ url }: EgressRequest): { readonly host: string; readonly port: number } | undefined {
  const [, host, port] = /^tcp:\/\/([^/?#]+):(\d{1,5})$/.exec(String(url)) ?? [];
  return host === undefined ? undefined : { host, port: Number(port) };
}

import { STATUS_CODES } from 'node:http';
import type { HeaderPair } from './http-deps.ts';
import type { EgressFailure, FailureKind } from '../failure.ts';

export interface Refusal {
  readonly status: number;
  readonly headers: readonly HeaderPair[];
  readonly body: Buffer;
}

/** On every answer that is ours and on none that is the upstream's. */
export const refusalHeader = 'glovebox-egress';

/** Of what is refused for how it is written. */
export const misuseHint = 'No policy changes this: the request has to be written in another way, or by another client.';

/**
 * The answer to a request that does not pass: for a program by its status and header, for a model by its text. Denied,
 * unresolvable, refused by the upstream and timed out are never taken for one another.
 *
 * `asked`: method and URL without query, as they were judged. `status`: where another one than the kind's says more (400, 421).
 */
export function refusalOf(failure: EgressFailure, asked: string, status = statusOf[failure.kind]): Refusal {
  const body = Buffer.from(
    `${JSON.stringify({
      error: failure.kind,
      asked: printable(asked),
      rule: failure.rule ?? null,
      reason: printable(failure.reason),
      hint: printable(failure.hint === '' ? hintOf[failure.kind] : failure.hint),
    })}\n`,
  );
  return {
    status,
    headers: [
      ['content-type', 'application/json; charset=utf-8'],
      ['cache-control', 'no-store'],
      [refusalHeader, failure.kind],
    ],
    body,
  };
}

const statusOf: Readonly<Record<FailureKind, number>> = {
  denied: 403,
  unresolvable: 502,
  refused: 502,
  timed_out: 504,
  cut: 403,
  broken: 502,
};

const hintOf: Readonly<Record<FailureKind, string>> = {
  denied:
    "The run's policy does not allow this. Trying again changes nothing; work without it, or ask for a policy that allows it.",
  unresolvable: 'The policy allows this, but the name has no address. Check how it is spelled.',
  refused: 'The policy allows this, but the server did not take the connection. It may be down.',
  timed_out: 'The policy allows this, but the server did not answer in time. Trying again may help.',
  cut: 'A bound of the policy ended this. Ask for less at once, or for a policy with more room.',
  broken: 'The policy allows this, but the server did not speak HTTP as it should.',
};

/** Of what an attacker may have named: one line, no control characters, not too long. */
function printable(text: string): string {
  const shown = text.replace(/[^\x20-\x7e]/g, '?');
  return shown.length <= 1000 ? shown : `${shown.slice(0, 997)}...`;
}

/** For a connection on which no request could be understood: the last thing that is said on it. */
export function rawAnswer({ status, headers, body }: Refusal): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  const head = `${[...lines, `content-length: ${body.length}`, 'connection: close'].join('\r\n')}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

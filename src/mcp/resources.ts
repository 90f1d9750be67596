import { ProtocolError, ProtocolErrorCode, type ReadResourceResult, type Resource } from '@modelcontextprotocol/server';
import { isRunnerError } from '../errors.ts';
import type { DelegatedRun } from '../run/delegated-run.ts';

/** In one reply; what is longer is read with the command line, which takes any length. */
const textBytesMax = 4 * 1024 * 1024;

const diffUri = 'glovebox://run/diff';
const patchUri = 'glovebox://run/patch';
const journalUri = 'glovebox://run/journal';

export const resourceList: Resource[] = [
  {
    uri: diffUri,
    name: 'diff',
    description: 'What has changed so far, classified, with what is refused or held back. Not while commands run.',
    mimeType: 'application/json',
  },
  {
    uri: patchUri,
    name: 'patch',
    description: 'The same as a patch that git apply takes. Not while commands run.',
    mimeType: 'text/x-diff',
  },
  {
    uri: journalUri,
    name: 'journal',
    description:
      'What was asked, decided and done: one JSON entry a line. With ?from=SEQ, the entries from that one on.',
    mimeType: 'application/x-ndjson',
  },
];

export async function readResource(run: DelegatedRun, uri: string): Promise<ReadResourceResult> {
  try {
    if (uri === diffUri) return contents(uri, 'application/json', `${JSON.stringify((await run.diff()).document)}\n`);
    if (uri === patchUri) return contents(uri, 'text/x-diff', Buffer.from((await run.diff()).patch).toString('utf8'));
    const from = journalStart(uri);
    if (from !== undefined) return contents(uri, 'application/x-ndjson', await journalText(run, from));
  } catch (error) {
    if (!isRunnerError(error)) throw error;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `${error.message} [${error.code}]`);
  }
  const known = resourceList.map((resource) => resource.uri).join(', ');
  throw new ProtocolError(
    ProtocolErrorCode.InvalidParams,
    `there is no resource ${uri.slice(0, 200)}; there are ${known}`,
  );
}

function contents(uri: string, mimeType: string, text: string): ReadResourceResult {
  if (text.length <= textBytesMax) return { contents: [{ uri, mimeType, text }] };
  const message = `${uri} has ${text.length} characters, more than the ${textBytesMax} of a reply; read it with glovebox diff`;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, message);
}

function journalStart(uri: string): number | undefined {
  if (uri === journalUri) return 1;
  const from = /^glovebox:\/\/run\/journal\?from=(\d{1,15})$/.exec(uri)?.[1];
  return from === undefined ? undefined : Math.max(1, Number(from));
}

/** As many entries as fit. The next one is the last one's `seq` + 1. */
async function journalText(run: DelegatedRun, from: number): Promise<string> {
  const lines: string[] = [];
  let length = 0;
  for await (const entry of run.journal(from)) {
    const line = `${JSON.stringify(entry)}\n`;
    length += line.length;
    if (length > textBytesMax) break;
    lines.push(line);
  }
  return lines.join('');
}

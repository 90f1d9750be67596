import { describeExec } from './exec-text.ts';
import type { GrepMatch, ToolData } from './tool-result.ts';

/** What a model is shown of a result. Everything in it is in the data too. */
export function renderText(data: ToolData, callId: string): string {
  switch (data.kind) {
    case 'exec':
      return execText(data, callId);
    case 'calls':
      return data.calls.map((call) => `${call.callId} ${call.state} ${call.exitCode ?? ''}`.trimEnd()).join('\n');
    case 'output':
      return data.content.text;
    case 'entry':
      return `${data.entry.path}: ${data.entry.type}, ${data.entry.sizeBytes} bytes, mode ${data.entry.mode.toString(8)}`;
    case 'content': {
      const cut = data.truncated ? `\n… cut here; the file has ${data.entry.sizeBytes} bytes …\n` : '';
      return data.content.text + cut;
    }
    case 'edited':
      return `${data.path}: ${data.lines.length} replaced, at line ${data.lines.slice(0, 20).join(', ')}`;
    case 'patched':
      return patchText(data);
    case 'entries': {
      const lines = data.entries.map((entry) => (entry.type === 'directory' ? `${entry.path}/` : entry.path));
      if (data.unreadable.length > 0) lines.push(`… not readable: ${data.unreadable.join(', ')}`);
      if (data.truncated) lines.push('… there is more; narrow the search');
      return lines.join('\n');
    }
    case 'matches':
      return matchesText(data);
    case 'archive':
      return `${data.entries} entries, ${data.bytes} bytes`;
    case 'unpacked':
      return `${data.entries} entries unpacked, ${data.bytes} bytes`;
    case 'done':
      return 'Done.';
  }
}

function execText(data: Extract<ToolData, { kind: 'exec' }>, callId: string): string {
  const streams = [
    data.output?.text ?? '',
    data.stdout?.text ?? '',
    data.stderr !== null && data.stderr.text !== '' ? `[stderr]\n${data.stderr.text}` : '',
  ];
  const printed = streams
    .filter((text) => text !== '')
    .map((text) => (text.endsWith('\n') ? text : `${text}\n`))
    .join('');
  return printed + describeExec(data, callId);
}

function patchText(data: Extract<ToolData, { kind: 'patched' }>): string {
  const lines = data.files.map((file) => {
    const from = file.movedFrom === null ? '' : ` from ${file.movedFrom}`;
    const off = file.hunks.filter((hunk) => hunk.offset !== 0 || hunk.strategy !== 'exact').length;
    const note = off === 0 ? '' : ` (${off} of ${file.hunks.length} hunks not exactly where or as stated)`;
    return `${file.action} ${file.path}${from} +${file.added} -${file.removed}${note}`;
  });
  return (data.dryRun ? ['Would apply; nothing was changed:', ...lines] : lines).join('\n');
}

function matchesText(data: Extract<ToolData, { kind: 'matches' }>): string {
  const lines: string[] = [];
  const hasContext = data.matches.some((other) => !other.match);
  let last: GrepMatch | undefined;
  for (const match of data.matches) {
    const adjacent = last !== undefined && last.path === match.path && last.line + 1 === match.line;
    if (last !== undefined && !adjacent && hasContext) lines.push('--');
    lines.push(`${match.path}${match.match ? ':' : '-'}${match.line}${match.match ? ':' : '-'}${match.text}`);
    last = match;
  }
  if (data.truncated) lines.push('… there is more; narrow the search');
  if (data.matches.length === 0) lines.push(`No match in ${data.filesSearched} files.`);
  return lines.join('\n');
}

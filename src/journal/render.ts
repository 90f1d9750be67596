import type { Entry, EntryData, EntryOutcome } from './entry.ts';
import { printable } from './printable.ts';

/** One line for a person at a terminal; nothing in it can be obeyed by one. */
export function renderEntry(entry: Entry): string {
  const time = `${(entry.mono / 1000).toFixed(3).padStart(9)}s`;
  return printable(`${String(entry.seq).padStart(4)} ${time}  ${entry.type.padEnd(19)} ${entryText(entry)}`);
}

const storyMax = 160;

type Decided = EntryData<'egress.decided'>;

/** What one says, as it is: to be escaped before it is shown. */
export function entryText(entry: Entry): string {
  switch (entry.type) {
    case 'run.opened': {
      const { policy, image, engine, intent } = entry.data;
      const fork = entry.data.forkedFrom === undefined ? '' : `, fork of ${entry.data.forkedFrom.run}`;
      const what = `run ${entry.run}${fork}, policy ${policy.name} (${brief(policy.digest)}), image ${image.reference}, ${engine.runtime}${observes(policy.effective) ? ', egress only observed' : ''}`;
      return intent === undefined ? what : `${what}: ${short(intent)}`;
    }
    case 'sandbox.started': {
      const { files, bytes } = entry.data.workspace;
      return `${entry.data.sandbox}, ${files} files, ${size(bytes)}`;
    }
    case 'run.resumed': {
      const { sandbox, goesOn, unknown } = entry.data;
      return `by another runner, in ${sandbox}; ${goesOn.length} calls go on, ${unknown.length} with an unknown end`;
    }
    case 'call.intended': {
      const { tool: _, ...shown } = entry.data.arguments;
      const by = entry.data.by === undefined ? '' : ` for ${short(entry.data.by)}`;
      return `${entry.data.callId} #${entry.data.count}${by} ${entry.data.tool} ${short(JSON.stringify(shown))}`;
    }
    case 'call.ended': {
      const { callId, outcome, ms, output, descendants, error } = entry.data;
      const parts = [`${callId} ${outcomeText(outcome)} in ${Math.round(ms)} ms`];
      if (output !== undefined) parts.push(`${size(output.bytes)} of output`);
      if (descendants !== undefined && descendants > 0) parts.push(`${descendants} processes outlived it`);
      if (error !== undefined) parts.push(`${error.code}: ${short(error.message)}`);
      return parts.join(', ');
    }
    case 'call.denied':
      return `${entry.data.callId} ${entry.data.tool} by ${entry.data.rule}: ${short(entry.data.reason)}`;
    case 'workspace.collected': {
      const { added, modified, deleted, findings } = entry.data;
      const found = Object.entries(findings).map(([kind, count]) => `${kind} ${count}`);
      return [`${added} added, ${modified} modified, ${deleted} deleted`, ...found].join(', ');
    }
    case 'files.seen':
      return seenText(entry.data);
    case 'snapshot.taken': {
      const { digest, changes, bytes, scratch } = entry.data;
      return `${brief(digest)}, ${changes} changes, ${size(bytes)}${scratch ? ', with scratch' : ''}`;
    }
    case 'snapshot.applied': {
      const { run, digest, changes, bytes } = entry.data;
      return `${brief(digest)} of run ${run}, ${changes} changes, ${size(bytes)}`;
    }
    case 'sandbox.lost':
      return `${short(entry.data.reason)} (container ${entry.data.container})`;
    case 'approval.requested': {
      const { id, category, at, callId, quorum } = entry.data;
      const what = callId === undefined ? at : `call ${callId}`;
      return `${id} ${category} for ${what}, ${quorum === 1 ? 'one person' : `${quorum} people`}`;
    }
    case 'approval.decided': {
      const { id, category, verdict, by, reason } = entry.data;
      return `${id} ${category} ${verdict}${by.length === 0 ? '' : ` by ${by.join(', ')}`}${reason === '' ? '' : `: ${short(reason)}`}`;
    }
    case 'risk.raised':
      return `${entry.data.from} to ${entry.data.to} by ${short(entry.data.by)}`;
    case 'drift.found': {
      const { findings, more = 0, at, against } = entry.data;
      const [first] = findings;
      const others = findings.length - 1 + more;
      const many = others === 0 ? '' : `, and ${others} more`;
      return `${at}, against ${against}: ${first?.reaction}: ${first?.kind}: ${short(first?.text ?? '')}${many}`;
    }
    case 'drift.held':
      return `${entry.data.at}, against ${entry.data.against}: nothing is otherwise (${brief(entry.data.found)})`;
    case 'egress.decided':
      return decidedText(entry.data);
    case 'egress.ended': {
      const { id, result, address, status, sentBytes, receivedBytes, ms, reason } = entry.data;
      const parts = [`e${id} ${result}${status === undefined ? '' : ` ${status}`} in ${Math.round(ms)} ms`];
      parts.push(`${size(sentBytes)} sent`, `${size(receivedBytes)} received`);
      if (address !== undefined) parts.push(`at ${address}`);
      return reason === undefined ? parts.join(', ') : `${parts.join(', ')}: ${short(reason)}`;
    }
    case 'egress.counted':
      return `${entry.data.count} more refused: ${entry.data.host}${byRule(entry.data.rule)}: ${short(entry.data.reason)}`;
    case 'egress.narrowed':
      return `without ${short(entry.data.without.join(', '))}`;
    case 'credential.revoked':
      return `${entry.data.credential}, ${entry.data.cut} requests with it were cut`;
    case 'participant.joined':
      return `${short(entry.data.by)} (${entry.data.how})`;
    case 'context.attached': {
      const { number, at, summary, model, lane } = entry.data;
      const who = model === undefined && lane === undefined ? '' : ` of ${worker({ model, lane })}`;
      return `context ${number}${at === 'other' ? '' : ` (${at})`}${who}: ${short(summary)}`;
    }
    case 'lane.handed_over': {
      const { from, to } = entry.data;
      const source = from.run === entry.run ? '' : ` of run ${from.run}`;
      return `from ${worker(from)}${source} to ${worker(to)}`;
    }
    case 'environment.fingerprint': {
      const { at, digest, sections } = entry.data;
      return `at ${at}: ${digest.slice(7, 19)}, ${Object.keys(sections).length} sections`;
    }
    case 'note':
      return short(entry.data.text);
    case 'journal.recovered':
      return `${short(entry.data.reason)}; ${entry.data.closedCalls.length} calls closed, ${entry.data.tornBytes} torn bytes set aside`;
    case 'run.closed': {
      const { outcome, summary, calls, denied, outputBytes } = entry.data;
      const totals = `${calls} calls, ${denied} denied, ${size(outputBytes)} of output`;
      return summary === '' ? `${outcome}, ${totals}` : `${outcome}, ${totals}: ${short(summary)}`;
    }
  }
}

function seenText({ calls, from, to, late, files, moreFiles = 0 }: EntryData<'files.seen'>): string {
  const names = files.slice(0, 3).map(({ path }) => path);
  const more = files.length + moreFiles - names.length;
  const what = short(`${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`);
  if (calls === 0 || from === undefined) return `${what}, written while no call ran`;
  if (calls === 1) return `${what}, written by ${late === true ? 'a process that call left' : 'call'} ${from}`;
  return `${what}, written by some of ${calls} calls from ${from} to ${to ?? from}`;
}

function decidedText({ id, host, port, scheme, method, path, rule, decision, reason, kind, callId }: Decided): string {
  const where = `${host}${port === undefined ? '' : `:${port}`}`;
  const what =
    kind === 'request' ? `${method ?? ''} ${scheme ?? ''}://${where}${short(path ?? '')}` : `${kind} ${where}`;
  const whose = callId === undefined ? '' : ` of call ${callId}`;
  return `e${id} ${decision} ${what}${byRule(rule)}${whose}${reason === undefined ? '' : `: ${short(reason)}`}`;
}

/** Where what no rule allows is let through, whoever reads the first line should know. */
function observes({ egress }: EntryData<'run.opened'>['policy']['effective']): boolean {
  return typeof egress === 'object' && egress !== null && 'mode' in egress && egress['mode'] === 'observe';
}

function worker({ lane, model }: EntryData<'lane.handed_over'>['to']): string {
  const parts = [model, lane === undefined ? undefined : `lane ${lane}`].filter((one) => one !== undefined);
  return parts.length === 0 ? 'nobody named' : short(parts.join(' in '));
}

function byRule(rule: string | undefined): string {
  return rule === undefined ? '' : ` by ${rule}`;
}

function outcomeText(outcome: EntryOutcome): string {
  switch (outcome.kind) {
    case 'exited':
      return `exited ${outcome.code}`;
    case 'signaled':
      return `ended by signal ${outcome.signal}`;
    case 'not_started':
      return `not started (${outcome.reason})`;
    case 'timed_out':
      return `timed out after ${outcome.afterMs} ms`;
    case 'idle_timed_out':
      return `timed out after ${outcome.afterMs} ms without output`;
    case 'output_limit':
      return `cut at ${size(outcome.limitBytes)} of output`;
    case 'out_of_memory':
      return `out of memory (${size(outcome.limitBytes)})`;
    case 'pids_limit':
      return `stopped at ${outcome.limit} processes`;
    case 'disk_full':
      return `disk full (${outcome.where.join(', ')})`;
    case 'denied':
      return `denied by ${outcome.rule}`;
    case 'sandbox_lost':
      return `sandbox lost (${short(outcome.reason)})`;
    case 'unknown':
      return `end unknown (${short(outcome.reason)})`;
    case 'cancelled':
    case 'done':
    case 'failed':
      return outcome.kind;
  }
}

function short(text: string): string {
  return text.length <= storyMax ? text : `${text.slice(0, storyMax)}...`;
}

function brief(digest: string): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}

function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / (1024 * 1024)).toFixed(1)} MiB`;
}

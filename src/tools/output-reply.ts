import { continuationBytes, viewBytes, wholeCharacters } from './bytes-view.ts';
import type { OutputView, StartedCall } from './started-call.ts';
import type { OutputReply } from './tool-result.ts';

/**
 * The part of a view that fits a reply: all of it, or its first and last half with an exact count between. Only those
 * bytes are ever read from the log. While the call runs, half a character at the end is left for the next reply.
 */
export async function replyOutput(
  call: StartedCall,
  view: OutputView,
  options: { readonly fromOffset: number; readonly maxBytes: number; readonly ended: boolean },
): Promise<OutputReply & { nextOffset: number }> {
  const totalBytes = call.output.size(view);
  const from = Math.min(options.fromOffset, totalBytes);
  const read = async (start: number, end: number): Promise<Buffer> => await readAll(call, view, start, end);
  const finish = (bytes: Buffer): Buffer => (options.ended ? bytes : bytes.subarray(0, wholeCharacters(bytes)));

  if (totalBytes - from <= options.maxBytes) {
    const bytes = finish(await read(from, totalBytes));
    const head = viewBytes(bytes);
    const nextOffset = from + bytes.length;
    return {
      text: head.text,
      head,
      tail: null,
      fromOffset: from,
      omittedBytes: 0,
      omittedOffset: null,
      totalBytes,
      nextOffset,
    };
  }

  const half = Math.floor(options.maxBytes / 2);
  const first = await read(from, from + half);
  const headBytes = first.subarray(0, wholeCharacters(first));
  const tailStart = totalBytes - half;
  const last = await read(tailStart, totalBytes);
  const skipped = continuationBytes(last);
  const tailBytes = finish(last.subarray(skipped));
  const omittedOffset = from + headBytes.length;
  const omittedBytes = tailStart + skipped - omittedOffset;
  const head = viewBytes(headBytes);
  const tail = viewBytes(tailBytes);
  return {
    text: `${head.text}${elision(call.id, view, omittedBytes, omittedOffset)}${tail.text}`,
    head,
    tail,
    fromOffset: from,
    omittedBytes,
    omittedOffset,
    totalBytes,
    nextOffset: tailStart + skipped + tailBytes.length,
  };
}

function elision(callId: string, view: OutputView, bytes: number, offset: number): string {
  const stream = view === 'merged' ? '' : `, stream ${view}`;
  return `\n… ${bytes} bytes omitted; read them with output(callId ${callId}, offset ${offset}${stream}) …\n`;
}

/** A log may answer with less than asked; it never has less than it said. */
async function readAll(call: StartedCall, view: OutputView, start: number, end: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = start; at < end;) {
    const { bytes } = await call.output.read(at, end - at, view);
    if (bytes.length === 0) break;
    parts.push(bytes);
    at += bytes.length;
  }
  return Buffer.concat(parts);
}

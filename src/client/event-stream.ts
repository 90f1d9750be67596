import { RunnerError } from '../errors.ts';

/** One event of a `text/event-stream`, whole. */
export interface StreamEvent {
  readonly id: string;
  /** `message` where the stream names none. */
  readonly event: string;
  readonly data: string;
}

const lineCharsMax = 16 * 1024 * 1024;

/**
 * The events of a stream (HTML Living Standard, 9.2.6): one that is cut off before its empty line never happened. Chunks may
 * be cut anywhere.
 */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<StreamEvent, void> {
  const decoder = new TextDecoder('utf-8');
  let buffered = '';
  let id = '';
  let event = '';
  let data: string[] = [];
  for await (const chunk of body) {
    buffered += decoder.decode(chunk, { stream: true });
    if (buffered.length > lineCharsMax)
      throw new RunnerError('internal', `the service sent a line of more than ${lineCharsMax} characters`);
    const lines = buffered.split('\n');
    buffered = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (data.length > 0 || event !== '')
          yield { id, event: event === '' ? 'message' : event, data: data.join('\n') };
        event = '';
        data = [];
        continue;
      }
      const [, field = '', value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === 'id' && !value.includes('\0')) id = value;
      else if (field === 'event') event = value;
      else if (field === 'data') data.push(value);
    }
  }
}

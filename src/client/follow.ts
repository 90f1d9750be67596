import { readEvents, type StreamEvent } from './event-stream.ts';
import { problemIn } from './problem.ts';
import type { Requests } from './requests.ts';
import { LostConnection, type Answer, type Ask } from './transport.ts';

/** A stream of the service says something at least every fifteen seconds: after three times that it is gone. */
const silenceMs = 45_000;

/**
 * The events of one stream, over as many connections as it takes: each begins after the last event that came whole. It ends with
 * the event that `isEnd` knows, or when its reader leaves; a service that stays away ends it with an error.
 */
export async function* followEvents(
  requests: Requests,
  path: string,
  {
    after,
    signal,
    isEnd,
  }: { after?: string; signal?: AbortSignal | undefined; isEnd: (event: StreamEvent) => boolean },
): AsyncGenerator<StreamEvent, void> {
  const ask: Ask = { method: 'GET', path, repeatable: true, silenceMs, signal };
  let lastId = after;
  let answer: Answer | undefined;
  let events: AsyncGenerator<StreamEvent, void> | undefined;
  const next = async (): Promise<StreamEvent> => {
    try {
      if (events === undefined) {
        const resume: Record<string, string> = lastId === undefined ? {} : { 'last-event-id': lastId };
        answer = await requests.once({ ...ask, headers: { accept: 'text/event-stream', ...resume } });
        events = readEvents(answer.body);
      }
      const { done, value } = await events.next();
      if (done === true) throw new LostConnection('the stream ended before its end');
      if (value.event === 'error') throw problemIn(value.data, path);
      return value;
    } catch (error) {
      events = undefined;
      throw error;
    }
  };
  try {
    for (;;) {
      const event = await requests.repeated(ask, next);
      if (event.id !== '') lastId = event.id;
      if (isEnd(event)) return;
      yield event;
    }
  } finally {
    answer?.discard();
  }
}

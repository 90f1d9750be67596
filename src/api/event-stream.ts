/** One server-sent event; `data` is one line. */
export interface Sent {
  readonly id?: string;
  readonly event?: string;
  readonly data: string;
}

export interface EventStreamOptions {
  /** A comment after so long without an event. Default 15,000. */
  readonly pingMs?: number;
  /** A reader that takes nothing for so long is cut off; it may come back with Last-Event-ID. Default 30,000. */
  readonly stallMs?: number;
  /** Cuts the connection of such a reader. */
  readonly cut: () => void;
  /** Called once, when it ends in whatever way. */
  readonly onEnd: () => void;
  /** Of a failure on the way: the data of a last event `error`. */
  readonly problem: (error: unknown) => unknown;
}

const pingMs = 15_000;
const stallMs = 30_000;

/**
 * What `next` gives, one after the other, as server-sent events: undefined ends it, null is nothing so far (a comment is sent, so
 * `next` should return after `pingMs`). Nothing is asked for before the reader has taken what was sent: there is no buffer to grow.
 */
export function eventStream(
  next: (waitMs: number) => Promise<readonly Sent[] | null | undefined>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  let over = false;
  const step = async (): Promise<Uint8Array | undefined> => {
    if (over) return undefined;
    try {
      const events = await next(options.pingMs ?? pingMs);
      if (events === undefined) return undefined;
      return Buffer.from(events === null ? ': ping\n\n' : events.map(format).join(''));
    } catch (error) {
      over = true;
      return Buffer.from(format({ event: 'error', data: JSON.stringify(options.problem(error)) }));
    }
  };
  return pulledStream(step, { ...options, opening: Buffer.from(': open\n\n') });
}

interface PulledOptions extends Pick<EventStreamOptions, 'stallMs' | 'onEnd' | 'cut'> {
  readonly opening?: Uint8Array;
}

/** Bytes that are made when they are asked for; undefined ends it. */
export function pulledStream(
  next: () => Promise<Uint8Array | undefined>,
  { stallMs: patienceMs = stallMs, onEnd, cut, opening }: PulledOptions,
): ReadableStream<Uint8Array> {
  let stalled: NodeJS.Timeout | undefined;
  let ended = false;
  const end = (): void => {
    clearTimeout(stalled);
    if (ended) return;
    ended = true;
    onEnd();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (opening !== undefined) controller.enqueue(opening);
      },
      async pull(controller) {
        clearTimeout(stalled);
        try {
          const bytes = await next();
          if (ended) return;
          if (bytes === undefined) {
            end();
            controller.close();
            return;
          }
          controller.enqueue(bytes);
          stalled = setTimeout(() => {
            end();
            controller.error(new Error(`the reader took nothing for ${patienceMs} ms`));
            cut();
          }, patienceMs);
        } catch (error) {
          end();
          controller.error(error);
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}

function format({ id, event, data }: Sent): string {
  return `${id === undefined ? '' : `id: ${id}\n`}${event === undefined ? '' : `event: ${event}\n`}data: ${data}\n\n`;
}

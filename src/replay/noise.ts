import { RE2JS } from 're2js';
import type { NoiseMet } from './replay-record.ts';

const units = '(?:ns|µs|us|ms|s|secs?|seconds?|msecs?|millis|milliseconds?|microseconds?|mins?|minutes?)\\b';

/** What is noise wherever it stands: by kind, as RE2 knows it. Only what can hardly be anything else. */
const always: readonly (readonly [string, string])[] = [
  [
    'timestamp',
    [
      String.raw`\b\d{4}-\d{2}-\d{2}[T _]\d{2}[:_-]\d{2}[:_-]\d{2}(?:[.,_]\d{1,9})?(?:Z| ?[+-]\d{2}:?\d{2}\b| UTC\b)?`,
      String.raw`\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},? )?(?:${months()} {1,2}\d{1,2}|\d{1,2} ${months()}) (?:\d{4} )?\d{2}:\d{2}(?::\d{2})?(?: (?:UTC|GMT|[+-]\d{4}))?(?: \d{4}\b)?`,
      String.raw`\b\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?\b`,
    ].join('|'),
  ],
  [
    'duration',
    [
      String.raw`\b\d{1,9}m\d{1,2}(?:\.\d{1,9})?s\b`,
      String.raw`\b\d{1,12}(?:\.\d{1,12})? ?${units}`,
      String.raw`(?i)\b(?:duration|elapsed|time|took)(?:_?(?:ms|s|secs|seconds))?["']?[ \t]{0,4}[:= ][ \t]{0,4}["']?\d{1,12}(?:\.\d{1,12})?(?: ?${units}|\b)`,
    ].join('|'),
  ],
  [
    'temporary name',
    [
      String.raw`\btmp\.[A-Za-z0-9]{6,12}\b`,
      String.raw`\btmp[a-z0-9_]{8}\b`,
      String.raw`/tmp/[A-Za-z0-9._-]{1,64}[.-][A-Za-z0-9]{6,10}\b`,
      String.raw`/tmp/pytest-of-[a-z]{1,32}/pytest-\d{1,6}\b`,
    ].join('|'),
  ],
  ['address', String.raw`\bat 0x[0-9a-fA-F]{6,16}\b|\b0x[0-9a-fA-F]{9,16}\b`],
  [
    'process id',
    String.raw`(?i)\b(?:pid|ppid|pgid|process(?: id)?)["']?[ \t]{0,4}[:=# ][ \t]{0,4}\d{1,7}\b|\b[a-z][a-z0-9_-]{0,31}\[\d{1,7}\]:`,
  ],
];

function months(): string {
  return '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}';
}

/** A bare number that is a moment of the run, in seconds, milliseconds, microseconds or nanoseconds. */
const moments = String.raw`\b\d{10}(?:\.\d{1,9})?\b|\b\d{13}(?:\.\d{1,6})?\b|\b\d{16}\b|\b\d{19}\b`;

/** A line longer than this is compared as it is. */
export const noiseLineMax = 4096;

/** What is known of the run that a text is of. */
export interface NoiseContext {
  /** From when to when it was open: bare numbers in between may be moments. */
  readonly openMs: readonly [number, number];
  /** Names that it alone has, such as its own id. */
  readonly names: readonly string[];
}

/**
 * What may differ between two runs of the same. Every pattern is one of RE2, so a line takes time in proportion to its length,
 * whoever wrote line and pattern. Pure, but for the counts of what it has met.
 */
export class Noise {
  readonly patterns: readonly string[];
  readonly #kinds: readonly { readonly by: string; readonly declared: NoiseMet['declared']; readonly re: RE2JS }[];
  readonly #moments = RE2JS.compile(moments);
  readonly #met = new Map<string, NoiseMet>();

  /** Throws for a pattern that is none: the policy has refused it before. */
  constructor(patterns: readonly string[]) {
    this.patterns = patterns;
    this.#kinds = [
      ...patterns.map((by) => ({ by, declared: 'policy' as const, re: RE2JS.compile(by) })),
      ...always.map(([by, source]) => ({ by, declared: 'always' as const, re: RE2JS.compile(source) })),
    ];
  }

  /** How often each made lines the same that were not. */
  get met(): readonly NoiseMet[] {
    return [...this.#met.values()];
  }

  /** Whether two lines are the same but for noise. */
  same(then: Said, now: Said): boolean {
    if (then.line === now.line) return true;
    if (then.line.length > noiseLineMax || now.line.length > noiseLineMax) return false;
    const [before, after] = [this.#without(then), this.#without(now)];
    if (before.text !== after.text) return false;
    for (const kind of before.kinds) if (after.kinds.has(kind)) this.#meet(kind, before.declared.get(kind) ?? 'always');
    return true;
  }

  #meet(by: string, declared: NoiseMet['declared']): void {
    const lines = (this.#met.get(by)?.lines ?? 0) + 1;
    this.#met.set(by, { by, declared, lines });
  }

  /** A lone surrogate stands for what was taken out: no text that was printed can have one. */
  #without({ line, context }: Said): Without {
    let text = line;
    const kinds = new Set<string>();
    const declared = new Map<string, NoiseMet['declared']>();
    const meet = (by: string, who: NoiseMet['declared'], mark: number): string => {
      kinds.add(by);
      declared.set(by, who);
      return String.fromCharCode(0xd800 + mark);
    };
    for (const name of context.names)
      if (name !== '' && text.includes(name)) text = text.replaceAll(name, () => meet('name of the run', 'always', 0));
    this.#kinds.forEach(({ by, declared: who, re }, index) => {
      text = replaced(re, text, () => meet(by, who, 2 + index));
    });
    text = replaced(this.#moments, text, (digits) =>
      isMoment(digits, context.openMs) ? meet('moment of the run', 'always', 1) : digits,
    );
    return { text, kinds, declared };
  }
}

export interface Said {
  readonly line: string;
  readonly context: NoiseContext;
}

interface Without {
  readonly text: string;
  readonly kinds: ReadonlySet<string>;
  readonly declared: ReadonlyMap<string, NoiseMet['declared']>;
}

function replaced(re: RE2JS, text: string, by: (found: string) => string): string {
  const matcher = re.matcher(text);
  let [out, at] = ['', 0];
  while (matcher.find()) {
    const [start, end] = [matcher.start(), matcher.end()];
    if (end > start) {
      out += text.slice(at, start) + by(text.slice(start, end));
      at = end;
    }
  }
  return at === 0 ? text : out + text.slice(at);
}

const slackMs = 2000;

function isMoment(digits: string, [from, to]: readonly [number, number]): boolean {
  const whole = digits.split('.')[0] ?? '';
  const ms = Number(digits) / 10 ** (whole.length - 13);
  return ms >= from - slackMs && ms <= to + slackMs;
}

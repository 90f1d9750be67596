import { pino, type Logger } from 'pino';

export interface LogOptions {
  readonly format: 'json' | 'pretty';
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** Where lines go; default stderr. */
  readonly write?: (line: string) => void;
}

/** One line for each thing that is worth one. Bodies, headers and keys are never given to it; a key all the same is masked. */
export function openLog({ format, level, write = toStderr }: LogOptions): Logger {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  const out = (line: string): void => write(maskKeys(line));
  return pino(options, { write: format === 'json' ? out : (line) => out(pretty(line)) });
}

/** What comes after the id of a key. */
export function maskKeys(text: string): string {
  return text.replaceAll(/(gbx_[0-9a-z]{26}_)[A-Za-z0-9_-]{20,}/g, '$1...');
}

function toStderr(line: string): void {
  process.stderr.write(line);
}

const levels: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' };

function pretty(line: string): string {
  const { level, time, msg, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const name = levels[Number(level)] ?? String(level);
  const more = Object.entries(rest).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return `${String(time)} ${name.padEnd(5)} ${typeof msg === 'string' ? msg.replaceAll('\n', '; ') : ''}${more.join('')}\n`;
}

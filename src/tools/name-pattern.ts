import { RE2JS } from 're2js';
import { ToolError } from './tool-result.ts';

/**
 * Glob patterns from agents, as RE2 programs: matching takes linear time whatever they write. (Glob libraries compile to
 * backtracking expressions, where one pattern of twenty stars can hold the runner for minutes.)
 * `*` and `?` stay within a name, `**` crosses directories, `[a-z]`, `[!a]`, `{a,b}`, `\` escapes. Names with a leading
 * dot are names. A pattern without a slash means the last part of the path.
 */
export class NamePattern {
  readonly #program: RE2JS;
  readonly #lastPartOnly: boolean;

  constructor(pattern: string) {
    const rooted = pattern.replace(/^(\.?\/)+/, '');
    this.#lastPartOnly = !pattern.includes('/');
    this.#program = compile(`^(?:${translate(rooted, pattern)})$`, pattern);
  }

  /** `path` is relative, separated by `/`. */
  matches(path: string): boolean {
    return this.#program.test(this.#lastPartOnly ? path.slice(path.lastIndexOf('/') + 1) : path);
  }
}

function compile(source: string, pattern: string): RE2JS {
  try {
    return RE2JS.compile(source, RE2JS.DOTALL);
  } catch (error) {
    throw invalid(pattern, error instanceof Error ? error.message : 'cannot be compiled');
  }
}

function translate(glob: string, pattern: string): string {
  let out = '';
  let depth = 0;
  for (let at = 0; at < glob.length; at++) {
    const char = glob[at] ?? '';
    const stars = char === '*' && glob[at + 1] === '*';
    if (stars && glob[at + 2] === '/' && (at === 0 || glob[at - 1] === '/')) {
      out += '(?:.*/)?';
      at += 2;
    } else if (stars) {
      out += '.*';
      at += 1;
    } else if (char === '*') out += '[^/]*';
    else if (char === '?') out += '[^/]';
    else if (char === '[') {
      const set = bracket(glob, at, pattern);
      out += set.source;
      at = set.end;
    } else if (char === '{') {
      depth++;
      if (depth > 10) throw invalid(pattern, 'braces are nested too deeply');
      out += '(?:';
    } else if (char === '}' && depth > 0) {
      depth--;
      out += ')';
    } else if (char === ',' && depth > 0) out += '|';
    else if (char === '\\' && at + 1 < glob.length) out += RE2JS.quote(glob[++at] ?? '');
    else out += RE2JS.quote(char);
  }
  if (depth > 0) throw invalid(pattern, 'a brace is not closed');
  return out;
}

function bracket(glob: string, start: number, pattern: string): { source: string; end: number } {
  const negated = glob[start + 1] === '!' || glob[start + 1] === '^';
  const first = start + (negated ? 2 : 1);
  const end = glob.indexOf(']', first + 1);
  if (end === -1) throw invalid(pattern, 'a bracket is not closed');
  const body = glob.slice(first, end).replace(/[\\\]^[&~]/g, '\\$&');
  return { source: negated ? `[^/${body}]` : `[${body}]`, end };
}

function invalid(pattern: string, why: string): ToolError {
  return new ToolError('invalid_pattern', `glob pattern ${JSON.stringify(pattern)}: ${why}`);
}

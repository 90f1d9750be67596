/** One simple command of a script, as the shell would see its words; nothing is expanded. */
export interface SimpleCommand {
  readonly words: readonly Word[];
  /** What a here-document feeds to it. */
  readonly input: string | undefined;
}

export interface Word {
  readonly text: string;
  /** Holds `$name`, `$(...)` or the like: what it will be is not known. */
  readonly unknown: boolean;
}

export interface Script {
  readonly commands: readonly SimpleCommand[];
  /** Part of it could not be read: an unclosed quote, or more than the bounds allow. */
  readonly unclear: boolean;
}

const commandsMax = 500;
const depthMax = 8;
const charsMax = 200_000;

/**
 * The simple commands of a POSIX shell or bash script, wherever they stand: in lists, pipes, groups, loops, substitutions.
 * It reads more as a command than the shell would, never less: a pattern of `case` may come out as a program.
 */
export function readScript(text: string, depth = 0): Script {
  if (depth > depthMax || text.length > charsMax) return { commands: [], unclear: true };
  const reader = new ScriptReader(text, depth);
  reader.read();
  return { commands: reader.commands, unclear: reader.unclear };
}

class ScriptReader {
  readonly commands: SimpleCommand[] = [];
  unclear = false;
  readonly #text: string;
  readonly #depth: number;
  readonly #awaited: string[] = [];
  #at = 0;
  #words: Word[] = [];
  #input: string | undefined;
  /** The word that is being read; undefined between words. */
  #word: string | undefined;
  #unknown = false;
  #skipNext = false;

  constructor(text: string, depth: number) {
    this.#text = text;
    this.#depth = depth;
  }

  read(): void {
    while (this.#at < this.#text.length && this.commands.length < commandsMax) this.#step(this.#text.charAt(this.#at));
    this.#endCommand();
    if (this.#at < this.#text.length || this.#awaited.length > 0) this.unclear = true;
  }

  #step(char: string): void {
    if (char === '#' && this.#word === undefined) return this.#skipLine();
    if (char === ' ' || char === '\t' || char === '\r') {
      this.#at += 1;
      return this.#endWord();
    }
    if (char === '\n') {
      this.#at += 1;
      this.#endWord();
      this.#readHereDocuments();
      return this.#endCommand();
    }
    if (char === '<' && this.#text.startsWith('<(', this.#at)) return this.#substitution(this.#at + 2, ')');
    if (char === '>' && this.#text.startsWith('>(', this.#at)) return this.#substitution(this.#at + 2, ')');
    if (char === '<' || char === '>') return this.#redirection();
    if (char === '&' && this.#text.charAt(this.#at + 1) === '>') return this.#redirection();
    if (';&|()'.includes(char)) {
      this.#at += 1;
      return this.#endCommand();
    }
    this.#wordPart(char);
  }

  #wordPart(char: string): void {
    switch (char) {
      case '\\':
        if (this.#text.charAt(this.#at + 1) !== '\n') this.#add(this.#text.charAt(this.#at + 1));
        this.#at += 2;
        return;
      case "'": {
        const end = this.#text.indexOf("'", this.#at + 1);
        if (end < 0) this.unclear = true;
        const close = end < 0 ? this.#text.length : end;
        this.#add(this.#text.slice(this.#at + 1, close));
        this.#at = close + 1;
        return;
      }
      case '"':
        return this.#doubleQuoted();
      case '$':
        return this.#dollar();
      case '`':
        return this.#backticks();
      default:
        this.#add(char);
        this.#at += 1;
    }
  }

  #doubleQuoted(): void {
    this.#at += 1;
    this.#add('');
    while (this.#at < this.#text.length) {
      const char = this.#text.charAt(this.#at);
      if (char === '"') {
        this.#at += 1;
        return;
      }
      if (char === '\\') {
        const next = this.#text.charAt(this.#at + 1);
        this.#add('$`"\\'.includes(next) ? next : next === '\n' ? '' : `\\${next}`);
        this.#at += 2;
      } else if (char === '$') this.#dollar();
      else if (char === '`') this.#backticks();
      else {
        this.#add(char);
        this.#at += 1;
      }
    }
    this.unclear = true;
  }

  #dollar(): void {
    const next = this.#text.charAt(this.#at + 1);
    if (next === "'") {
      // $'...' has escapes of its own: what it says is not worked out.
      this.#unknown = true;
      this.#add('');
      this.#at += 1;
      return;
    }
    if (next === '(') return this.#substitution(this.#at + 2, ')');
    if (next === '{') {
      const end = this.#closing(this.#at + 2, '{', '}');
      this.#inner(this.#text.slice(this.#at + 2, end), false);
      this.#at = end + 1;
      return;
    }
    const [name = ''] = /^(?:\w+|[@*#?$!-])/.exec(this.#text.slice(this.#at + 1, this.#at + 130)) ?? [];
    if (name === '') this.#add('$');
    else {
      this.#unknown = true;
      this.#add(`$${name}`);
    }
    this.#at += 1 + name.length;
  }

  #backticks(): void {
    const end = this.#text.indexOf('`', this.#at + 1);
    if (end < 0) this.unclear = true;
    const close = end < 0 ? this.#text.length : end;
    this.#inner(this.#text.slice(this.#at + 1, close), true);
    this.#at = close + 1;
  }

  #substitution(from: number, close: ')'): void {
    const end = this.#closing(from, '(', close);
    this.#inner(this.#text.slice(from, end), true);
    this.#at = end + 1;
  }

  /** Commands inside of a word. What only may hold some, such as `${a:-$(b)}`, is searched for them. */
  #inner(text: string, isScript: boolean): void {
    this.#unknown = true;
    this.#add('');
    if (!isScript && !/[$`]/.test(text)) return;
    const inner = readScript(text, this.#depth + 1);
    if (inner.unclear) this.unclear = true;
    this.commands.push(...(isScript ? inner.commands : inner.commands.slice(0, -1)));
  }

  /** Where a bracket closes again, past quotes and brackets within. */
  #closing(from: number, open: string, close: string): number {
    let depth = 1;
    let quote = '';
    for (let at = from; at < this.#text.length; at++) {
      const char = this.#text.charAt(at);
      if (char === '\\' && quote !== "'") at += 1;
      else if (quote !== '') quote = char === quote ? '' : quote;
      else if (char === "'" || char === '"') quote = char;
      else if (char === open) depth += 1;
      else if (char === close && --depth === 0) return at;
    }
    this.unclear = true;
    return this.#text.length;
  }

  /** Its target is no word of the command; a here-document waits for the end of the line. */
  #redirection(): void {
    if (this.#word !== undefined && /^\d+$/.test(this.#word)) this.#word = undefined;
    this.#endWord();
    const [operator = '<'] =
      /^(?:<<<|<<-|<<|<&|<>|<|&>>|&>|>>|>&|>\||>)/.exec(this.#text.slice(this.#at, this.#at + 3)) ?? [];
    this.#at += operator.length;
    if (operator === '<<' || operator === '<<-') {
      const [whole = '', , word = ''] =
        /^[ \t]*(['"]?)([\w.!-]+)\1/.exec(this.#text.slice(this.#at, this.#at + 200)) ?? [];
      if (word === '') this.unclear = true;
      else this.#awaited.push(word);
      this.#at += whole.length;
      return;
    }
    if (operator === '<<<') return; // what it feeds stays a word, and is looked at as one
    this.#skipNext = true;
  }

  #readHereDocuments(): void {
    for (const end of this.#awaited.splice(0)) {
      const lines: string[] = [];
      for (let closed = false; !closed;) {
        if (this.#at >= this.#text.length) {
          this.unclear = true;
          break;
        }
        const newline = this.#text.indexOf('\n', this.#at);
        const stop = newline < 0 ? this.#text.length : newline;
        const line = this.#text.slice(this.#at, stop);
        this.#at = stop + 1;
        closed = line.trim() === end;
        if (!closed) lines.push(line);
      }
      this.#input = lines.join('\n');
    }
  }

  #skipLine(): void {
    const newline = this.#text.indexOf('\n', this.#at);
    this.#at = newline < 0 ? this.#text.length : newline;
  }

  #add(text: string): void {
    this.#word = (this.#word ?? '') + text;
  }

  #endWord(): void {
    if (this.#word === undefined) return;
    if (this.#skipNext) this.#skipNext = false;
    else this.#words.push({ text: this.#word, unknown: this.#unknown });
    this.#word = undefined;
    this.#unknown = false;
  }

  #endCommand(): void {
    this.#endWord();
    this.#skipNext = false;
    const words = withoutKeywords(this.#words);
    if (words.length > 0) this.commands.push({ words, input: this.#input });
    this.#words = [];
    this.#input = undefined;
  }
}

const keywords: ReadonlySet<string> = new Set(
  'if then else elif fi while until do done esac { } ! time coproc function'.split(' '),
);
const headers: ReadonlySet<string> = new Set(['for', 'case', 'select', 'in']);

/** `then git push` is `git push`; the head of a loop names variables, not programs. */
function withoutKeywords(words: readonly Word[]): readonly Word[] {
  const first = words.findIndex(({ text, unknown }) => unknown || !keywords.has(text));
  const rest = first < 0 ? [] : words.slice(first);
  return headers.has(rest[0]?.text ?? '') ? [] : rest;
}

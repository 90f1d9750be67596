import { inspect } from 'node:util';

/** Shorter ones could be guessed, and a search for them would mask ordinary text. */
const charsMin = 8;
const charsMax = 4096;

/**
 * Text that nothing shows: not a log line, an error, JSON, an inspection. `reveal` is the one way to it, so that a reader
 * can find every place where it is let out.
 */
export class Secret {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /**
   * Of what a source gave; one newline at its end is not part of it. Throws RangeError, which says what is wrong and shows
   * nothing of it: it has to fit into a header (RFC 9110, 5.5: visible ASCII, spaces inside).
   */
  static parse(given: string): Secret {
    const text = given.replace(/\r?\n$/, '');
    if (text === '') throw new RangeError('it is empty');
    if (text.length < charsMin) throw new RangeError(`it is shorter than ${charsMin} characters`);
    if (text.length > charsMax) throw new RangeError(`it is longer than ${charsMax} characters`);
    if (!/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])$/.test(text))
      throw new RangeError('it is not one line of printable ASCII without spaces around it');
    return new Secret(text);
  }

  reveal(): string {
    return this.#text;
  }

  equals(other: Secret): boolean {
    return this.#text === other.#text;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}

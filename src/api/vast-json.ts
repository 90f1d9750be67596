import { RunnerError } from '../errors.ts';

/** Far more than a command has arguments and variables. */
const valuesMax = 32_768;
const depthMax = 64;

/**
 * Throws `invalid_request` for JSON of so many values, or levels, that it costs everybody's time to be understood: it is made of
 * objects, and schemas tell of each one that is wrong. Looks at no text in it, and at nothing beyond the bound.
 */
export function refuseVast(json: Buffer): void {
  let [values, depth] = [1, 0];
  for (let at = 0; at < json.length; at++)
    switch (json[at] ?? 0) {
      case quote:
        at = endOfText(json, at);
        break;
      case openBrace:
      case openBracket:
        depth += 1;
        values += 1;
        if (depth > depthMax) throw refused(`${depthMax} levels`);
        break;
      case closeBrace:
      case closeBracket:
        depth -= 1;
        break;
      case comma:
        values += 1;
        if (values > valuesMax) throw refused(`${valuesMax} values`);
        break;
    }
}

/** Of the quotation mark that ends it, or of the end: what is no JSON is refused by whoever parses it. */
function endOfText(json: Buffer, begin: number): number {
  for (let end = json.indexOf(quote, begin + 1); end >= 0; end = json.indexOf(quote, end + 1)) {
    let escapes = 0;
    while (json[end - 1 - escapes] === backslash) escapes += 1;
    if (escapes % 2 === 0) return end;
  }
  return json.length;
}

const quote = 0x22;
const comma = 0x2c;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

function refused(bound: string): RunnerError {
  return new RunnerError(
    'invalid_request',
    `the body is JSON of more than ${bound}; what is long goes as one text, or as a file`,
  );
}

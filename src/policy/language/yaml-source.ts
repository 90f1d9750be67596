import { isMap, isNode, isPair, isScalar, LineCounter, parseDocument, visit, type Document, type Node } from 'yaml';
import { messageOf, RunnerError } from '../../errors.ts';

/** Longest policy file. */
export const textBytesMax = 65_536;
const depthMax = 16;

/** A YAML text as plain data, and where each part of it stands. */
export interface YamlSource {
  readonly value: unknown;
  /** `source:line:column` of the value at this path, of its key, or of what encloses it. */
  placeOf(path: readonly PropertyKey[], part?: 'value' | 'key'): string;
}

/**
 * The part of YAML that has one meaning: one document of version 1.2, plain keys, each once. No anchors, aliases and
 * merges (they hide what is said, and grow), no tags (they change what a value is), no directives.
 */
export function readYaml(text: string, source: string): YamlSource {
  if (Buffer.byteLength(text) > textBytesMax) throw invalid(source, `is longer than ${textBytesMax} bytes`);
  const lines = new LineCounter();
  const placeAt = (offset: number | undefined): string => {
    if (offset === undefined) return source;
    const { line, col } = lines.linePos(offset);
    return `${source}:${line}:${col}`;
  };
  const document = parse(text, source, lines);
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) throw invalid(placeAt(problem.pos[0]), sentenceOf(problem.code, problem.message));
  if (document.directives?.yaml.explicit === true) throw invalid(source, 'remove the %YAML line: a policy is YAML 1.2');
  refuseCleverness(document, placeAt);
  if (document.contents === null) throw invalid(source, 'is empty; start from sandbox-policies/default.yaml');
  if (!isMap(document.contents)) throw invalid(placeAt(0), 'is not a list of keys and values');
  return {
    value: document.toJS({ maxAliasCount: 0 }) as unknown,
    placeOf: (path, part = 'value') => placeAt(offsetOf(document, path, part)),
  };
}

function parse(text: string, source: string, lineCounter: LineCounter): Document {
  try {
    return parseDocument(text, {
      version: '1.2',
      schema: 'core',
      strict: true,
      uniqueKeys: true,
      merge: false,
      prettyErrors: false,
      stringKeys: true,
      lineCounter,
    });
  } catch (cause) {
    throw new RunnerError('invalid_policy', `${source}: cannot be read as YAML: ${messageOf(cause)}`, { cause });
  }
}

function refuseCleverness(document: Document, placeAt: (offset: number | undefined) => string): void {
  visit(document, {
    Alias: (_, node) => {
      throw invalid(placeAt(node.range?.[0]), 'aliases (*name) are not allowed; write the value out');
    },
    Node: (_, node, path) => {
      const place = placeAt(node.range?.[0]);
      if ('anchor' in node && node.anchor !== undefined) throw invalid(place, 'anchors (&name) are not allowed');
      if (node.tag !== undefined) throw invalid(place, `tags (${node.tag.slice(0, 60)}) are not allowed`);
      if (path.length > depthMax * 2) throw invalid(place, `more than ${depthMax} levels deep`);
    },
  });
}

function sentenceOf(code: string, message: string): string {
  switch (code) {
    case 'DUPLICATE_KEY':
      return 'the same key twice; keep one';
    case 'MULTIPLE_DOCS':
      return 'a second document (---); a policy file holds one';
    default:
      return message;
  }
}

function offsetOf(document: Document, path: readonly PropertyKey[], part: 'value' | 'key'): number | undefined {
  if (part === 'key') {
    const parent = nodeAt(document, path.slice(0, -1));
    const key = isMap(parent) ? parent.items.find((pair) => isPair(pair) && isNamed(pair.key, path.at(-1))) : undefined;
    if (key !== undefined && isNode(key.key)) return key.key.range?.[0];
  }
  for (let length = path.length; length >= 0; length--) {
    const node = nodeAt(document, path.slice(0, length));
    if (node?.range !== undefined && node.range !== null) return node.range[0];
  }
  return undefined;
}

function nodeAt(document: Document, path: readonly PropertyKey[]): Node | undefined {
  const found: unknown = path.length === 0 ? document.contents : document.getIn(path, true);
  return isNode(found) ? found : undefined;
}

function isNamed(key: unknown, name: PropertyKey | undefined): boolean {
  return isScalar(key) && key.value === name;
}

function invalid(place: string, what: string): RunnerError {
  return new RunnerError('invalid_policy', `${place}: ${what}`);
}

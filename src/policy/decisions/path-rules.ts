import { Scope } from '../../workspace/scope/scope.ts';
import type { FileRules } from '../layers/file-rules.ts';

/** What may be done with a path, from nothing to everything. */
export const pathClasses = ['absent', 'read', 'scratch', 'propose_only', 'write_ask', 'write'] as const;
export type PathClass = (typeof pathClasses)[number];

export interface PathDecision {
  readonly class: PathClass;
  /** The layer that decided: the first of those that allow least. */
  readonly layer: string;
  /** The list that decided; undefined when none names the path. */
  readonly list?: string;
  readonly glob?: string;
}

/**
 * What all layers together say of a path: the least that any of them allows. This holds whatever the layers say, also of
 * layers that would not have loaded.
 */
export class PathRules {
  readonly #layers: readonly CompiledLayer[];

  constructor(layers: readonly FileRules[]) {
    this.#layers = layers.map(compileLayer);
  }

  classOf(path: string, kind: 'file' | 'directory' = 'file'): PathClass {
    return pathClasses[Math.min(...this.#layers.map((layer) => rankIn(layer, path, kind)), highest)] ?? 'absent';
  }

  decide(path: string, kind: 'file' | 'directory' = 'file'): PathDecision {
    const ranks = this.#layers.map((layer) => rankIn(layer, path, kind));
    const rank = Math.min(...ranks, highest);
    const layer = this.#layers[ranks.indexOf(rank)];
    if (layer === undefined) return { class: 'absent', layer: '' };
    return { class: pathClasses[rank] ?? 'absent', layer: layer.name, ...reasonIn(layer, path) };
  }
}

interface CompiledLayer {
  readonly name: string;
  readonly scope: Scope;
  readonly ask: Scope | undefined;
  readonly propose: Scope | undefined;
}

const highest = pathClasses.length - 1;

function compileLayer({ layer, read, write, writeAsk, proposeOnly, scratch, deny }: FileRules): CompiledLayer {
  return {
    name: layer,
    scope: Scope.compile({ read, write, scratch, deny }),
    ask: only(writeAsk),
    propose: only(proposeOnly),
  };
}

function only(write: readonly string[]): Scope | undefined {
  return write.length === 0 ? undefined : Scope.compile({ read: [], write, scratch: [], deny: [] });
}

function rankIn({ scope, ask, propose }: CompiledLayer, path: string, kind: 'file' | 'directory'): number {
  return pathClasses.indexOf(classIn({ scope, ask, propose }, path, kind));
}

function classIn(
  { scope, ask, propose }: Omit<CompiledLayer, 'name'>,
  path: string,
  kind: 'file' | 'directory',
): PathClass {
  const plain = scope.classOf(path, kind);
  if (plain === 'scratch' || (plain === 'absent' && scope.denies(path))) return plain;
  // A directory may hold files of several classes: then the widest says whether one may work in it.
  if (kind === 'directory' && plain === 'write') return plain;
  if (propose?.classOf(path, kind) === 'write') return 'propose_only';
  if (ask?.classOf(path, kind) === 'write') return 'write_ask';
  return plain;
}

function reasonIn({ scope, ask, propose }: CompiledLayer, path: string): { list?: string; glob?: string } {
  const plain = scope.explain(path);
  if (plain.list !== 'deny' && plain.list !== 'scratch') {
    for (const [list, found] of [
      ['propose_only', propose?.explain(path)],
      ['write_ask', ask?.explain(path)],
    ] as const)
      if (found?.class === 'write') return { list, ...(found.glob === undefined ? {} : { glob: found.glob }) };
  }
  return {
    ...(plain.list === undefined ? {} : { list: plain.list }),
    ...(plain.glob === undefined ? {} : { glob: plain.glob }),
  };
}

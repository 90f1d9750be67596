import { matchesHost } from '../policy/decisions/host-name.ts';
import { compilePath, matchesPath, type PathPattern } from '../policy/decisions/path-pattern.ts';
import { readRequestUrl } from '../policy/decisions/request-url.ts';
import type { EffectiveCredential } from '../policy/layers/effective-egress.ts';

/** What a credential is sent with: one host, methods and paths, over TLS. Read as the rules read a request. */
export class Binding {
  readonly #terms: Pick<EffectiveCredential, 'host' | 'methods' | 'path'>;
  readonly #paths: readonly PathPattern[];

  constructor(terms: Pick<EffectiveCredential, 'host' | 'methods' | 'path'>) {
    this.#terms = terms;
    this.#paths = terms.path.map((path) => compilePath(path));
  }

  isHost(url: URL): boolean {
    return matchesHost(this.#terms.host, url.hostname.toLowerCase().replace(/\.$/, ''));
  }

  /** Undefined where it fits; else what it is for, to go on after "it is". */
  mismatch(method: string, url: URL): string | undefined {
    const { host, methods, path } = this.#terms;
    const read = readRequestUrl(url.href.replace(/#.*$/, ''));
    if (read.kind === 'ambiguous') return `for no such URL: ${read.reason}`;
    if (read.url.scheme !== 'https') return 'for https:// only';
    if (!matchesHost(host, read.url.host)) return `for ${host} only`;
    if (!methods.includes(method)) return `for ${methods.join(', ')} only`;
    const fits = [read.url.segments, read.url.splitSegments].every((segments) =>
      this.#paths.some((pattern) => matchesPath(pattern, segments)),
    );
    return fits ? undefined : `for ${path.join(', ')} only`;
  }
}

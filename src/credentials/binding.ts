import { parseGlob, type Glob } from '../workspace/scope/glob.ts';
import type { EffectiveCredential } from '../policy/layers/effective-egress.ts';

export type CredentialTerms = Pick<EffectiveCredential, 'source' | 'host'> & Partial<EffectiveCredential>;

/** What a credential is sent with: one host, methods and paths, over TLS. What a policy leaves out has its standard here. */
export class Binding {
  readonly host: string;
  readonly #methods: readonly string[];
  readonly #paths: readonly string[];
  readonly #globs: readonly Glob[];

  constructor({ host, methods = ['GET', 'HEAD'], path = ['/**'] }: Pick<CredentialTerms, 'host' | 'methods' | 'path'>) {
    this.host = host;
    this.#methods = methods;
    this.#paths = path;
    this.#globs = path.flatMap((one) => globsOf(one));
  }

  isHost(url: URL): boolean {
    const host = url.hostname.toLowerCase().replace(/\.$/, '');
    if (this.host.startsWith('**.')) return host.endsWith(this.host.slice(2)) && host.length > this.host.length - 2;
    if (!this.host.startsWith('*.')) return host === this.host;
    const label = host.slice(0, -(this.host.length - 1));
    return host.endsWith(this.host.slice(1)) && label !== '' && !label.includes('.');
  }

  /** Undefined where it fits; else what it is for, to go on after "it is". */
  mismatch(method: string, url: URL): string | undefined {
    if (url.protocol !== 'https:') return 'for https:// only';
    if (!this.isHost(url)) return `for ${this.host} only`;
    if (!this.#methods.includes(method)) return `for ${this.#methods.join(', ')} only`;
    if (this.#paths.includes('/**')) return undefined;
    // What servers read in different ways is matched by no narrower path.
    const ambiguous = /%2f|%5c|%00|%2e|\\|\/\//i.test(url.pathname);
    const segments = url.pathname.split('/').slice(1);
    const fits = !ambiguous && this.#globs.some((glob) => glob.matches(segments));
    return fits ? undefined : `for ${this.#paths.join(', ')} only`;
  }
}

function globsOf(path: string): readonly Glob[] {
  if (path === '/') return [{ matches: (segments) => segments.join('/') === '', covers: false, openings: () => [] }];
  return parseGlob(path.slice(1));
}

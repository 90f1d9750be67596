import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { promisify } from 'node:util';
import { issueCertificate } from './certificate.ts';

/**
 * The certificate authority of one run, known to nobody else. Promises:
 *  - its key and that of the leaves are written nowhere but, by its owner, into the run's own directory, for the next runner;
 *  - a leaf names one host and is good for a day to both sides of now. The authority ends with its run, when its key goes: its dates are
 *    so wide that programs that trust it go on doing so however far a clock is set meanwhile;
 *  - at most `leavesMax` leaves are kept.
 */
export class Authority {
  /** The authority's own certificate, for the bundles that tools inside trust. */
  readonly pem: string;
  readonly #keys: AuthorityKeys;
  readonly #now: () => number;
  readonly #leaves = new Map<string, Leaf>();

  private constructor(pem: string, keys: AuthorityKeys, now: () => number) {
    this.pem = pem;
    this.#keys = keys;
    this.#now = now;
  }

  /** `now`: for tests; milliseconds since 1970. */
  static async create(now: () => number = Date.now): Promise<Authority> {
    const [own, leaf] = await Promise.all([newKeys('ec', curve), newKeys('ec', curve)]);
    const pem = issueCertificate({
      subject: authorityName,
      issuer: authorityName,
      ...validity(now(), authorityDays, authorityDays),
      publicKey: own.publicKey,
      signingKey: own.privateKey,
      host: undefined,
    });
    return new Authority(
      pem,
      { signing: own.privateKey, leafPublic: leaf.publicKey, leafPem: pemOf(leaf.privateKey) },
      now,
    );
  }

  /** That of a runner that died: programs inside trust it already. Throws where it is not what was kept. */
  static reopen(kept: KeptAuthority, now: () => number = Date.now): Authority {
    const leafPublic = createPublicKey(createPrivateKey(kept.leafKey));
    return new Authority(kept.pem, { signing: createPrivateKey(kept.key), leafPublic, leafPem: kept.leafKey }, now);
  }

  /** Secret. */
  kept(): KeptAuthority {
    const { signing, leafPem } = this.#keys;
    return { pem: this.pem, key: pemOf(signing).toString(), leafKey: leafPem.toString() };
  }

  /** To answer as `host` with. Made once for a host, and again half a day from then, forward or back: while it is good still. */
  contextOf(host: string): SecureContext {
    const now = this.#now();
    const kept = this.#leaves.get(host);
    this.#leaves.delete(host);
    const isGood = kept !== undefined && Math.abs(now - kept.issuedMs) < dayMs / 2;
    const leaf = isGood ? kept : { issuedMs: now, context: this.#issue(host, now) };
    // Last in the map is used last: the first is the one to go.
    this.#leaves.set(host, leaf);
    for (const oldest of this.#leaves.keys()) {
      if (this.#leaves.size <= leavesMax) break;
      this.#leaves.delete(oldest);
    }
    return leaf.context;
  }

  #issue(host: string, now: number): SecureContext {
    const { signing, leafPublic, leafPem } = this.#keys;
    const cert = issueCertificate({
      // Read by people alone; a longer name does not fit.
      subject: host.length <= 64 ? host : 'a host behind Glovebox',
      issuer: authorityName,
      ...validity(now, 1, 1),
      publicKey: leafPublic,
      signingKey: signing,
      host,
    });
    // With a `ca`, the certificates of the public authorities are not loaded for it.
    return createSecureContext({ key: leafPem, cert, ca: this.pem });
  }
}

/** With its private keys, as PEM. */
export interface KeptAuthority {
  readonly pem: string;
  readonly key: string;
  readonly leafKey: string;
}

interface AuthorityKeys {
  readonly signing: KeyObject;
  /** One pair for all leaves: they are as secret as each other. */
  readonly leafPublic: KeyObject;
  readonly leafPem: string | Buffer;
}

interface Leaf {
  readonly issuedMs: number;
  readonly context: SecureContext;
}

const newKeys = promisify(generateKeyPair);
const curve = { namedCurve: 'P-256' };
const authorityName = 'Glovebox, authority of one run';
const dayMs = 86_400_000;
const authorityDays = 3_650;
const leavesMax = 512;

function validity(
  nowMs: number,
  daysBefore: number,
  daysAfter: number,
): { readonly notBefore: Date; readonly notAfter: Date } {
  return { notBefore: new Date(nowMs - daysBefore * dayMs), notAfter: new Date(nowMs + daysAfter * dayMs) };
}

function pemOf(key: KeyObject): string | Buffer {
  return key.export({ type: 'pkcs8', format: 'pem' });
}

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Issued {
  readonly key: string;
  readonly cert: string;
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

/** An authority that nobody else trusts, made now; `issue` signs a certificate for names and addresses. */
export class TestAuthority {
  readonly #folder = mkdtempSync(join(tmpdir(), 'glovebox-authority-'));
  readonly pem: string;
  readonly file = join(this.#folder, 'ca.pem');

  constructor() {
    this.#openssl(['-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test authority']);
    this.pem = readFileSync(this.file, 'utf8');
  }

  issue(...names: readonly string[]): Issued {
    const alternatives = names.map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(',');
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-subj', '/CN=leaf', '-addext', 'basicConstraints=CA:FALSE'];
    const extensions = ['-addext', `subjectAltName=${alternatives}`];
    this.#openssl([...signed, ...extensions, '-keyout', 'leaf.key', '-out', 'leaf.pem']);
    return { key: this.#read('leaf.key'), cert: this.#read('leaf.pem') };
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #openssl(options: readonly string[]): void {
    execFileSync('openssl', ['req', '-x509', ...newKey, ...options], { cwd: this.#folder, stdio: 'pipe' });
  }

  #read(name: string): string {
    return readFileSync(join(this.#folder, name), 'utf8');
  }
}

import { Buffer } from 'node:buffer';
import type { ImageLock } from './lock.ts';
import type { RootfsFacts } from './rootfs.ts';

interface Component {
  readonly type: string;
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
}

/**
 * The image's package list as CycloneDX 1.6 JSON: what dpkg says is installed, and every npm package in it. Nothing of the
 * moment (no serial number, no time), so that two builds of one content have one list.
 */
export function bomOf(lock: ImageLock, facts: RootfsFacts, suite: string): string {
  const debian = facts.packages.map(({ name, version, architecture }) =>
    component(name, version, `pkg:deb/debian/${part(name)}@${part(version)}?arch=${architecture}&distro=${suite}`),
  );
  const pins = new Map(lock.npm.map((pin) => [`${pin.name}@${pin.version}`, pin]));
  const pinned = lock.npm.map(({ name, version, integrity }) => ({
    ...component(name, version, npmPurl(name, version)),
    hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex') }],
  }));
  const bundled = facts.npm
    .filter(({ name, version }) => !pins.has(`${name}@${version}`))
    .map(({ name, version }) => component(name, version, npmPurl(name, version)));
  const bom = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'container',
        'bom-ref': `glovebox/${lock.image}`,
        name: `glovebox/${lock.image}`,
        version: lock.content,
        hashes: [{ alg: 'SHA-256', content: lock.content.slice('sha256:'.length) }],
      },
    },
  };
  return render(bom, [...debian, ...pinned, ...bundled]);
}

function component(name: string, version: string, purl: string): Component {
  return { type: 'library', 'bom-ref': purl, name, version, purl };
}

function npmPurl(name: string, version: string): string {
  return `pkg:npm/${name.split('/').map(part).join('/')}@${part(version)}`;
}

function part(text: string): string {
  return encodeURIComponent(text);
}

/** One component a line: a change of one package is a change of one line. */
function render(bom: object, components: readonly Component[]): string {
  const head = JSON.stringify(bom, undefined, 2).replace(/\n}$/, '');
  const lines = components.map((entry) => `    ${JSON.stringify(entry)}`);
  return `${head},\n  "components": [\n${lines.join(',\n')}\n  ]\n}\n`;
}

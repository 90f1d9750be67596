import { RunnerError, messageOf } from '../errors.ts';
import { FileError, type Files, type UnpackItem } from '../sandbox/spec.ts';
import { loopback, proxyPort } from './entrance.ts';
import { clientFolder, keptBundle, systemBundle } from './image-trust.ts';

const folder = clientFolder;
const bundle = `${folder}/ca.pem`;
const aptConfig = `${folder}/apt.conf`;
const wgetConfig = `${folder}/wgetrc`;

/** Where images keep the authorities that they trust: Debian and Alpine, Fedora, openSUSE, OpenSSL's own. */
const imageBundles = [
  keptBundle,
  systemBundle,
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
const bundleMaxBytes = 2 * 1024 * 1024;

/**
 * Writes what programs inside are to trust: the image's own authorities, where it has some, and the run's. Root owns it, tools
 * only read it. To be done before any tool has run: until then what lies in the image is the image's.
 */
export async function writeTrust(files: Pick<Files, 'read' | 'unpack'>, authorityPem: string): Promise<void> {
  const own = await readImageBundle(files);
  const file = (path: string, text: string): UnpackItem => ({
    path,
    type: 'file',
    mode: 0o444,
    owner: 'root',
    content: Buffer.from(text),
  });
  try {
    await files.unpack(
      '/run',
      [
        { path: 'glovebox', type: 'directory', mode: 0o755, owner: 'root' },
        file('glovebox/ca.pem', `${own}${own === '' || own.endsWith('\n') ? '' : '\n'}${authorityPem}`),
        file('glovebox/apt.conf', `Acquire::https::CaInfo "${bundle}";\n`),
        file('glovebox/wgetrc', `ca_certificate = ${bundle}\n`),
      ],
      { owners: true },
    );
  } catch (cause) {
    const message = `the authority of the run cannot be written to ${folder} inside: ${messageOf(cause)}`;
    throw new RunnerError('policy_unenforceable', message, { cause });
  }
}

async function readImageBundle(files: Pick<Files, 'read'>): Promise<string> {
  for (const path of imageBundles) {
    try {
      return (await files.read(path, { maxBytes: bundleMaxBytes })).bytes.toString('latin1');
    } catch (error) {
      if (!(error instanceof FileError)) throw error; // it is not there, or not to be read: the next one
    }
  }
  return '';
}

/**
 * Where clients look for a proxy, with the call as its user, so that they say whose they are. What is on the loopback of the
 * sandbox needs none.
 */
export function proxyEnvironment(callId: string): Readonly<Record<string, string>> {
  const proxy = `http://${callId}:call@${loopback}:${proxyPort}`;
  const direct = 'localhost,127.0.0.1,::1';
  return {
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    http_proxy: proxy,
    https_proxy: proxy,
    NO_PROXY: direct,
    no_proxy: direct,
    NODE_USE_ENV_PROXY: '1', // from Node 24 on; before that its clients go by name
  };
}

/** Where clients look for the authorities that they trust; for after `writeTrust`. */
export function trustEnvironment(): Readonly<Record<string, string>> {
  const names = [
    'SSL_CERT_FILE', // OpenSSL, Go, Python's ssl, Ruby, uv, Rust's native certificates
    'CURL_CA_BUNDLE',
    'REQUESTS_CA_BUNDLE',
    'NODE_EXTRA_CA_CERTS',
    'GIT_SSL_CAINFO',
    'PIP_CERT',
    'npm_config_cafile',
    'YARN_HTTPS_CA_FILE_PATH',
    'CARGO_HTTP_CAINFO',
    'AWS_CA_BUNDLE',
    'DENO_CERT',
    'BUNDLE_SSL_CA_CERT',
    'PERL_LWP_SSL_CA_FILE',
    'HTTPLIB2_CA_CERTS',
    'GRPC_DEFAULT_SSL_ROOTS_FILE_PATH',
    'NIX_SSL_CERT_FILE',
  ];
  return { ...Object.fromEntries(names.map((name) => [name, bundle])), APT_CONFIG: aptConfig, WGETRC: wgetConfig };
}

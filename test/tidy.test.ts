import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

/**
 * The layering and the style, as a test. Editing `mayImport` is a design change: say why in ARCHITECTURE.md.
 * Direction: doors (cli) -> runner -> nouns -> leaves.
 */
const leaves = [
  'errors.ts',
  'ids.ts',
  'digest.ts',
  'deadline.ts',
  'bytes-path.ts',
  'failpoint.ts',
  'process-identity.ts',
  'machine-clock.ts',
  'slots.ts',
  'host-program.ts',
  'long-bytes.ts',
  'long-json.ts',
  'token-bucket.ts',
  'shipped.ts',
  'version.ts',
  'plural.ts',
];
const mayImport: Record<string, readonly string[]> = {
  'errors.ts': [],
  'ids.ts': [],
  'digest.ts': [],
  'bytes-path.ts': [],
  'failpoint.ts': [],
  'slots.ts': [],
  'long-bytes.ts': ['digest.ts'],
  'long-json.ts': [],
  'plural.ts': [],
  'shipped.ts': [],
  'program.fixture.ts': ['ids.ts'],
  'token-bucket.ts': [],
  'version.ts': ['shipped.ts'],
  'deadline.ts': ['errors.ts'],
  'host-program.ts': ['errors.ts'],
  'process-identity.ts': ['errors.ts'],
  'machine-clock.ts': [],
  engine: leaves,
  journal: leaves,
  registries: leaves, // which package registries this machine uses
  policy: [...leaves, 'registries', 'workspace'], // the one glob language and what a path is in a scope
  budget: leaves,
  credentials: [...leaves, 'policy', 'workspace'], // what a policy binds a secret to, and the one glob language
  control: leaves, // whoever opens a run gives it in
  'config.ts': [...leaves, 'policy'], // the one strict reader of YAML
  'data-dir': leaves,
  backup: [...leaves, 'data-dir', 'journal', 'store'],
  retention: [...leaves, 'data-dir', 'journal', 'workspace'], // what runs keep, for how long, and the contents that nothing names
  store: [...leaves, 'data-dir', 'journal'], // what is asked for across runs, and how it is made again from their journals
  sandbox: [...leaves, 'engine'], // the engine port and the fact that a stream exists; never an adapter
  workspace: [...leaves, 'sandbox'], // the `Files` interface
  tools: [...leaves, 'sandbox'],
  images: [...leaves, 'engine', 'registries'], // the mirrors that apt uses
  inputs: [...leaves, 'engine', 'workspace'], // what of this machine is shown, and that the engine mounted just that
  'fencing.ts': [...leaves, 'credentials', 'egress', 'journal', 'policy', 'sandbox'], // a sandbox, its way out, and where that is recorded
  // An image of what a policy and a workspace say, made behind the same fence as a run's and on record in the same way.
  environment: [
    ...leaves,
    'data-dir',
    'egress',
    'engine',
    'fencing.ts',
    'images',
    'journal',
    'policy',
    'registries',
    'sandbox',
    'workspace',
  ],
  egress: [...leaves, 'policy', 'registries', 'sandbox', 'credentials'], // what the rules say, the connections inside, the secrets attached
  'recovery.ts': [...leaves, 'engine', 'sandbox', 'journal', 'data-dir', 'workspace'],
  'overlay-trial.ts': [...leaves, 'data-dir', 'engine', 'workspace'], // what the engine can mount, found out by a layer
  'placement.ts': [
    ...leaves,
    'engine',
    'environment',
    'inputs',
    'overlay-trial.ts',
    'sandbox',
    'workspace',
    'data-dir',
  ], // where a workspace meets the engine's volumes
  // Sandboxes before anybody asks for them, made of what a run would make them of.
  pool: [
    ...leaves,
    'data-dir',
    'egress',
    'engine',
    'fencing.ts',
    'placement.ts',
    'policy',
    'run',
    'sandbox',
    'workspace',
  ],
  // What a runner is given and made of; it does nothing.
  'runner-parts.ts': [
    ...leaves,
    'approvals',
    'data-dir',
    'drift',
    'egress',
    'engine',
    'journal',
    'placement.ts',
    'pool',
    'run',
    'workspace',
  ],
  'opening.ts': [
    ...leaves,
    'approvals',
    'budget',
    'context',
    'data-dir',
    'drift',
    'egress',
    'engine',
    'environment',
    'fencing.ts',
    'journal',
    'placement.ts',
    'policy',
    'pool',
    'run',
    'runner-parts.ts',
    'sandbox',
    'workspace',
  ],
  'runner.ts': [
    ...leaves,
    'approvals', // whom a run is to ask, where it is not who the runner asks
    'data-dir',
    'drift',
    'engine',
    'environment',
    'images',
    'opening.ts',
    'placement.ts',
    'policy',
    'pool',
    'recovery.ts',
    'resuming.ts',
    'run',
    'runner-parts.ts',
    'workspace',
  ],
  // A run of a runner that died is put together again, of the same parts as a new one.
  'resuming.ts': [
    ...leaves,
    'approvals',
    'budget',
    'data-dir',
    'egress',
    'engine',
    'fencing.ts',
    'journal',
    'placement.ts',
    'policy',
    'run',
    'runner-parts.ts',
    'sandbox',
    'tools',
    'workspace',
  ],
  // What the environment was and whether it still is: read from the engine and the sandbox, compared without either.
  drift: [...leaves, 'data-dir', 'engine', 'journal', 'policy', 'sandbox'],
  approvals: leaves,
  // What agents believed and who wrote what, as journals and run directories have it; and what is looked at for that while a run goes on.
  context: [...leaves, 'data-dir', 'journal', 'sandbox', 'workspace'],
  run: [
    ...leaves,
    'approvals',
    'budget',
    'context',
    'control',
    'credentials',
    'data-dir',
    'drift',
    'egress',
    'engine',
    'fencing.ts',
    'journal',
    'placement.ts',
    'policy',
    'sandbox',
    'tools',
    'workspace',
  ],
  // What services and clients say to each other: schemas, and nothing that does anything.
  contract: [...leaves, 'approvals', 'context', 'drift', 'policy', 'stats', 'store', 'tools', 'verify'],
  api: [
    ...leaves,
    'context',
    'contract',
    'control',
    'journal',
    'mcp',
    'run',
    'sandbox',
    'service',
    'stats',
    'store',
    'tools',
  ],
  // Many harnesses, one data directory: who may do what with which run.
  service: [
    ...leaves,
    'approvals',
    'bundle',
    'context', // who worked in a run, what they believed, who wrote what
    'contract',
    'control',
    'drift',
    'images',
    'sandbox',
    'data-dir',
    'engine',
    'journal',
    'policy',
    'promotion', // what a reviewer is shown, and what they say
    'recovery.ts',
    'run',
    'runner.ts',
    'retention',
    'stats',
    'store',
    'tools',
    'workspace', // what clients send to start from
    'verify', // what was found of a run is read like its diff
  ],
  // What harnesses install: types of the schemas alone; main.ts when a service of its own is asked for.
  client: [...leaves, 'context', 'contract', 'control', 'journal', 'main.ts', 'tools'],
  failures: [...leaves, 'journal'], // why something did not come out as it was to, in one list of classes
  // Above the runner: what it does without an agent, of runs that are closed.
  verify: [...leaves, 'data-dir', 'failures', 'journal', 'policy', 'runner.ts', 'sandbox', 'tools', 'workspace'],
  // The calls of a closed run again, in a sandbox of their own, and what came out otherwise.
  replay: [
    ...leaves,
    'approvals',
    'context',
    'data-dir',
    'failures',
    'journal',
    'policy',
    'run',
    'runner.ts',
    'sandbox',
    'tools',
    'workspace',
  ],
  report: [...leaves, 'contract', 'failures', 'journal', 'verify'], // what can be held against a run, for CI
  // All that a run has left, in one signed file: what it is made of is named by digest, and read again to be checked.
  bundle: [
    ...leaves,
    'approvals',
    'context',
    'contract',
    'credentials',
    'data-dir',
    'drift',
    'environment',
    'images',
    'journal',
    'policy',
    'replay',
    'run',
    'sandbox',
    'verify',
    'workspace',
  ],
  // What of a run goes into a repository, when people and rules say so: speaks of bundles, and of nothing that runs.
  promotion: [
    ...leaves,
    'bundle',
    'contract',
    'data-dir',
    'journal',
    'policy',
    'replay',
    'store',
    'verify',
    'workspace',
  ],
  // What is counted of runs, and what became of them: reads records, and writes nothing.
  stats: [...leaves, 'data-dir', 'failures', 'journal', 'promotion', 'verify'],
  stdio: leaves, // lines of JSON on two streams
  bridge: [...leaves, 'run', 'stdio', 'tools'], // doors of single harnesses, in their own words
  mcp: [...leaves, 'approvals', 'context', 'journal', 'run', 'stdio', 'tools'], // a door: one run, seen through a protocol
  cli: [
    ...leaves,
    'backup',
    'bundle',
    'context',
    'api',
    'client',
    'contract',
    'report',
    'service',
    'bridge',
    'mcp',
    'approvals',
    'config.ts',
    'control',
    'credentials', // what the operator has for the address that a promotion is pushed to
    'drift',
    'engine',
    'sandbox',
    'workspace',
    'tools',
    'journal',
    'policy',
    'promotion',
    'data-dir',
    'environment',
    'inputs',
    'images',
    'runner.ts',
    'run',
    'recovery.ts',
    'replay',
    'retention',
    'stats',
    'store',
    'verify',
  ],
  'main.ts': [
    ...leaves,
    'api',
    'client',
    'service',
    'approvals',
    'config.ts',
    'egress',
    'engine',
    'cli',
    'runner.ts',
    'data-dir',
    'policy',
    'tools',
    'workspace',
  ],
  'command-line.ts': ['cli', 'data-dir', 'main.ts'], // the latter two when a command asks for them
};

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = filesUnder(join(root, 'src')).filter((file) => file.endsWith('.ts'));
const code = sources.filter((file) => !file.endsWith('.test.ts'));

describe('layering', () => {
  test.each(code.map((file) => [relative(join(root, 'src'), file), file]))(
    '%s imports only what its layer may',
    (name, file) => {
      const own = nounOf(name);
      const allowed = mayImport[own];
      expect(allowed, `${own} is not in the table of test/tidy.test.ts`).toBeDefined();
      for (const imported of importsOf(file)) {
        const noun = nounOf(relative(join(root, 'src'), imported));
        if (noun !== own) expect(allowed, `${name} imports ${noun}`).toContain(noun);
      }
    },
  );

  test('only main.ts names a real engine', () => {
    const naming = code.filter((file) => importsOf(file).some((path) => /engine\/(docker|fake)\//.test(path)));
    const outside = naming.map((file) => relative(root, file)).filter((name) => !name.startsWith('src/engine/'));
    expect(outside).toEqual(['src/main.ts']);
  });

  test('SQLite is known to the store alone', () => {
    const users = code.filter((file) => /from 'libsql'/.test(readFileSync(file, 'utf8')));
    for (const file of users) expect(relative(root, file)).toMatch(/^src\/store\//);
    expect(users.length).toBeGreaterThan(0);
  });

  test('dockerode is known to the Docker adapter alone', () => {
    const users = code.filter((file) => /from '(dockerode|docker-modem)'/.test(readFileSync(file, 'utf8')));
    for (const file of users) expect(relative(root, file)).toMatch(/^src\/engine\/docker\//);
  });
});

describe('style', () => {
  test('no file is longer than 400 lines', () => {
    const long = sources
      .map((file) => [relative(root, file), lineCount(file)] as const)
      .filter(([, lines]) => lines > 400);
    expect(long).toEqual([]);
  });

  test('no folder is a drawer and no file is a barrel', () => {
    const bad = sources
      .map((file) => relative(root, file))
      .filter((name) => /(^|\/)(utils?|common|helpers?|types|misc|index)(\/|\.ts$)/.test(name));
    expect(bad).toEqual([]);
  });

  test('files are named in kebab-case', () => {
    const bad = sources
      .map((file) => relative(join(root, 'src'), file))
      .filter((name) => !/^[a-z0-9-]+(\/[a-z0-9-]+)*(\.(test|fuzz\.test|fixture))?\.ts$/.test(name));
    expect(bad).toEqual([]);
  });

  test('no module keeps state of its own', () => {
    const bad = code.filter((file) => /^(export )?(let|var) /m.test(readFileSync(file, 'utf8')));
    expect(bad.map((file) => relative(root, file))).toEqual([]);
  });

  test('types are not given up', () => {
    const bad = code.filter((file) =>
      /:\s*any\b|as any\b|@ts-(ignore|expect-error|nocheck)/.test(readFileSync(file, 'utf8')),
    );
    expect(bad.map((file) => relative(root, file))).toEqual([]);
  });
});

describe('promises', () => {
  test.each(['README.md', 'SECURITY.md'])('every test that %s names exists', (page) => {
    const text = readFileSync(join(root, page), 'utf8');
    const named = [...text.matchAll(/`((?:src|test|images)\/[\w./-]+\.(?:test\.ts|py|sh))`/g)].map(
      (match) => match[1] ?? '',
    );
    if (page === 'SECURITY.md') expect(named.length).toBeGreaterThan(15);
    for (const path of named) expect(() => statSync(join(root, path)), path).not.toThrow();
  });
});

/** `sandbox/link.ts` -> `sandbox`; `runner.ts` -> `runner.ts`. */
function nounOf(name: string): string {
  return name.split('/')[0] ?? name;
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) => match[1] ?? '');
  return found.map((specifier) => resolve(dirname(file), specifier));
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesUnder(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

function lineCount(file: string): number {
  return readFileSync(file, 'utf8').split('\n').length - 1;
}

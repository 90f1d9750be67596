import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Runtime } from '../src/engine/engine.ts';
import { parseChain, policyFor, type LoadedPolicy } from '../src/policy/policy.ts';
import { publicRegistries } from '../src/registries/registries.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { ToolResult } from '../src/tools/tool-result.ts';
import { Bench } from './fixtures/bench.ts';
import { Packages } from './fixtures/packages.ts';
import { underEachRuntime } from './security/fixtures/host.ts';

/** npm and git as they are, inside a real sandbox: what they read, and what they cannot send. */
const bench = await Bench.make();
const facts = await bench.engine.describe();
const packages = await Packages.open();
const runner = await Runner.create(bench.engine, bench.dataDir, { network: packages.network() });
let run: Run;
let calls = 0;

afterAll(async () => {
  await runner.close();
  await bench.close();
  await packages.close();
});

function policyUnder(runtime: Runtime): LoadedPolicy {
  const { port } = packages;
  const own = `ports: [${port}], addresses: ["127.0.0.0/8"]`;
  const text = `apiVersion: glovebox/v1
kind: Policy
name: registries
images: [node]
runtime: ${runtime}
limits: { memory: 1536MiB, pids: 512, workspace: 256MiB, tmp: 128MiB }
files: { read: ["**"], write: ["**"] }
egress:
  use: [registry_read, git_fetch]
  profiles:
    registry_read:
      - { id: npm, registry: npm, addresses: ["127.0.0.0/8"] }
    git_fetch:
      - { id: git-refs, host: [git.test], path: ["/acme/*/info/refs"], query: { service: git-upload-pack }, ${own} }
      - { id: git-pack, host: [git.test], methods: [POST], path: ["/acme/*/git-upload-pack"], max_sent: 1MiB, ${own} }
`;
  const registries = { ...publicRegistries, npm: [{ url: `https://npm.test:${port}/` }] };
  return policyFor(parseChain([{ text, source: 'registries.yaml' }]), {}, { registries });
}

async function sh(script: string): Promise<ToolResult> {
  calls += 1;
  return run.call(`c${calls}`, { tool: 'exec', script });
}

underEachRuntime(facts, (runtime) => {
  beforeAll(async () => {
    packages.arrived.length = 0;
    run = await runner.open({ policy: policyUnder(runtime) });
  });
  afterAll(() => run.close());

  describe('npm', () => {
    test('installs from the registry that the rule stands for, without being told', async () => {
      const done = await sh(
        `mkdir -p n && cd n && echo '{"name":"n"}' > package.json && npm install --no-audit --no-fund @acme/left 2>&1 && node -p "require('@acme/left')"`,
      );
      expect(done.text).toContain('left of acme');
      expect(packages.arrived).toContain('GET npm.test /@acme/left/-/left-1.0.0.tgz');
      expect(packages.arrived.some((one) => /^GET npm\.test \/@acme%2fleft$/i.test(one))).toBe(true);
    });

    test('publishes nothing: the registry does not hear of it', async () => {
      const done = await sh(
        `mkdir -p p && cd p && echo '{"name":"@acme/mine","version":"1.0.0"}' > package.json && npm config set //npm.test:${packages.port}/:_authToken=stolen && npm publish --access public 2>&1`,
      );
      expect(done.text).toMatch(/403|E403/);
      expect(packages.arrived.filter((one) => !one.startsWith('GET '))).toEqual([]);
      expect(packages.arrived.filter((one) => one.includes('mine'))).toEqual([]);
    });
  });

  describe('git', () => {
    const repository = (): string => `https://git.test:${packages.port}/acme/web.git`;

    test('fetches', async () => {
      const done = await sh(
        `git clone -q ${repository()} web 2>&1 && cat web/README.md && git -C web fetch -q && git -C web rev-parse HEAD`,
      );
      expect(done.text).toContain('a repository');
      expect(done.text).toContain(packages.head);
    });

    test('does not push: the server hears nothing, and its branch stays', async () => {
      const before = packages.head;
      const done = await sh(
        `cd web && git -c user.name=x -c user.email=x@x.test commit -q --allow-empty -m mine && git push ${repository()} HEAD:main 2>&1; echo exit $?`,
      );
      expect(done.text).toMatch(/403/);
      expect(done.text).not.toMatch(/exit 0/);
      // By hand, for whoever leaves out the announcement.
      const statuses = `const asks = [['/git-receive-pack', 'POST'], ['/info/refs?service=git-upload-pack&service=git-receive-pack', 'GET']];
      for (const [path, method] of asks) console.log((await fetch('${repository()}' + path, { method })).status)`;
      const direct = await sh(`node --input-type=module -e "${statuses}"`);
      expect(direct.text).toMatch(/^403\n403\n/);
      expect(packages.arrived.filter((one) => one.includes('receive-pack'))).toEqual([]);
      expect(packages.head).toBe(before);
    });
  });
});

import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { digestOf } from '../digest.ts';
import { BundleBench, unpack } from './bundle.fixture.ts';
import { verifyIt } from './closed-run.fixture.ts';
import { describeRun } from './export.ts';
import { testResultText } from './statements.ts';

/**
 * What the published specifications ask for: in-toto Statement v1 and ResourceDescriptor v1, SLSA provenance v1, test-result v0.1.
 * Strict where they allow more, so that a field that we misspell is found.
 */
const uri = z.string().regex(/^[a-z][a-z0-9+.-]*:\S+$/); // RFC 3986: a scheme, and no spaces
const hex = (length: number) => z.string().regex(new RegExp(`^[0-9a-f]{${length}}$`));
const DigestSet = z.strictObject({ sha256: hex(64).optional(), gitCommit: hex(40).optional() });
const ResourceDescriptor = z
  .strictObject({
    name: z.string().optional(),
    uri: uri.optional(),
    digest: DigestSet.optional(),
    content: z.string().optional(),
    downloadLocation: uri.optional(),
    mediaType: z.string().optional(),
    annotations: z.record(z.string(), z.json()).optional(),
  })
  .refine(({ uri, digest, content }) => uri !== undefined || digest !== undefined || content !== undefined);
const Subject = ResourceDescriptor.refine(({ digest }) => digest?.sha256 !== undefined, 'a subject has its digest');

const statement = <T extends z.ZodType>(predicateType: string, predicate: T) =>
  z.strictObject({
    _type: z.literal('https://in-toto.io/Statement/v1'),
    subject: z
      .array(Subject)
      .min(1)
      .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, 'names are unique'),
    predicateType: z.literal(predicateType),
    predicate,
  });

const Provenance = statement(
  'https://slsa.dev/provenance/v1',
  z.strictObject({
    buildDefinition: z.strictObject({
      buildType: uri,
      externalParameters: z.record(z.string(), z.json()),
      internalParameters: z.record(z.string(), z.json()).optional(),
      resolvedDependencies: z.array(ResourceDescriptor).optional(),
    }),
    runDetails: z.strictObject({
      builder: z.strictObject({
        id: uri,
        version: z.record(z.string(), z.string()).optional(),
        builderDependencies: z.array(ResourceDescriptor).optional(),
      }),
      metadata: z
        .strictObject({
          invocationId: z.string().optional(),
          startedOn: z.iso.datetime().optional(),
          finishedOn: z.iso.datetime().optional(),
        })
        .optional(),
      byproducts: z.array(ResourceDescriptor).optional(),
    }),
  }),
);

const TestResult = statement(
  'https://in-toto.io/attestation/test-result/v0.1',
  z.strictObject({
    result: z.enum(['PASSED', 'WARNED', 'FAILED']),
    configuration: z.array(ResourceDescriptor),
    url: uri.optional(),
    passedTests: z.array(z.string()).optional(),
    warnedTests: z.array(z.string()).optional(),
    failedTests: z.array(z.string()).optional(),
  }),
);

const Envelope = z.strictObject({
  payload: z.base64(),
  payloadType: z.literal('application/vnd.in-toto+json'),
  signatures: z.array(z.strictObject({ keyid: z.string(), sig: z.base64() })).length(1),
});

let bench: BundleBench;
let files: Map<string, Buffer>;
beforeAll(async () => {
  bench = await BundleBench.create();
  files = unpack(await bench.bundle());
});
afterAll(() => bench.remove());

function payloadOf(name: string): unknown {
  const envelope = Envelope.parse(JSON.parse(files.get(name)?.toString('utf8') ?? ''));
  return JSON.parse(Buffer.from(envelope.payload, 'base64').toString('utf8'));
}

const sha = (name: string): string => digestOf(files.get(name) ?? '').slice('sha256:'.length);

test('the provenance is a statement as in-toto and SLSA publish it, about manifest, change set and patch', () => {
  const { subject, predicate } = Provenance.parse(payloadOf('provenance.dsse.json'));
  const names = ['manifest.json', 'change-set.json', 'changes.patch'];
  expect(subject).toEqual(names.map((name) => ({ name, digest: { sha256: sha(name) } })));
  const { buildDefinition, runDetails } = predicate;
  expect(buildDefinition.externalParameters).toMatchObject({
    intent: 'mend it',
    policy: { name: 'small' },
    base: { commit: 'c'.repeat(40) },
  });
  expect(buildDefinition.resolvedDependencies).toContainEqual({
    name: 'base commit',
    digest: { gitCommit: 'c'.repeat(40) },
  });
  expect(runDetails.metadata?.invocationId).toBe(bench.run.dir.id);
  expect(runDetails.byproducts).toContainEqual({ name: 'journal.ndjson', digest: { sha256: sha('journal.ndjson') } });
});

test('the test result is a statement as in-toto publishes it, and no gate that did not pass is among those that did', async () => {
  expect(TestResult.parse(payloadOf('test-result.dsse.json')).predicate).toMatchObject({
    result: 'PASSED',
    passedTests: ['scope'],
    failedTests: [],
  });
  const gate = { kind: 'command', required: true, reason: '', evidence: [] } as const;
  const verdicts = ['passed', 'needs_review', 'failed', 'broken'] as const;
  for (const [verdict, result] of [
    ['needs_review', 'WARNED'],
    ['failed', 'FAILED'],
    ['broken', 'FAILED'],
  ] as const) {
    const gates = verdicts.map((one) => ({ ...gate, id: one, verdict: one }));
    const verification = await verifyIt(bench.dataDir, bench.run, { verdict, gates });
    const { manifest, digest } = await describeRun(bench.dataDir, bench.run.dir.id);
    const { predicate } = TestResult.parse(JSON.parse(testResultText(manifest, digest, verification)));
    expect(predicate).toMatchObject({
      result,
      passedTests: ['passed'],
      warnedTests: ['needs_review'],
      failedTests: ['failed', 'broken'],
    });
  }
});

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ApprovalFiles } from '../approvals/approval-files.ts';
import type { ApprovalRequest } from '../approvals/approval.ts';
import { contextEntry } from '../context/context-entry.ts';
import { keepContext } from '../context/context-files.ts';
import { digestOfContext, encodeContext, parseContext } from '../context/context-snapshot.ts';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { sectionDigests, sectionFrom } from '../drift/fingerprint.ts';
import { writeFingerprint } from '../drift/fingerprint-files.ts';
import { someFingerprint } from '../drift/fingerprint.fixture.ts';
import { newId } from '../ids.ts';
import { findLock } from '../images/lock.ts';
import { shippedImagesDir } from '../images/recipe.ts';
import type { Draft, EntryData } from '../journal/entry.ts';
import { closed, intended, linesOf, opened, textOf } from '../journal/story.fixture.ts';
import { formatPolicyRecord } from '../policy/policy-record.ts';
import { parsePolicy, type LoadedPolicy } from '../policy/policy.ts';
import { exportDocument } from '../run/export.ts';
import { collectedData } from '../run/entries.ts';
import { someReplay } from '../replay/replay-record.fixture.ts';
import type { ReplayRecord } from '../replay/replay-record.ts';
import { writeReplay } from '../replay/replay-files.ts';
import { someVerification } from '../verify/verification.fixture.ts';
import type { Verification } from '../verify/verification.ts';
import { writeVerification } from '../verify/verification-files.ts';
import { BlobStore } from '../workspace/blobs.ts';
import type { ChangeSet, Node, Tree } from '../workspace/change-set.ts';
import { classifyChanges } from '../workspace/changes/classify.ts';
import { diffTrees, sortedByBytes } from '../workspace/diff.ts';
import { digestOfChangeSet, digestOfTree, encodeChangeSet, encodeTree } from '../workspace/manifest.ts';
import { makePatch } from '../workspace/patch/patch.ts';

/** What a run of the runner leaves when it closes, without a sandbox: every kind of change, outputs, an approval. */
export interface ClosedRun {
  readonly dir: RunDir;
  readonly policy: LoadedPolicy;
  readonly base: Tree;
  readonly changeSet: ChangeSet;
}

const policyText = `apiVersion: glovebox/v1
kind: Policy
name: small
description: for tests
images: [base]
files: { read: ["**"], write: ["**"], scratch: [], deny: ["**/.env"] }
limits: { memory: 384MiB, cpus: 1, pids: 64, workspace: 32MiB, tmp: 32MiB, command_timeout: 20s }
budget: { max_actions_per_run: 50 }
`;

/** Contents of files by path; a text that begins with `-> ` is a link. Two more characters at its end make it a program: `!x`. */
const before = {
  'README.md': 'read me\n',
  'gone.txt': 'to be deleted\n',
  link: '-> README.md',
  'src/a.ts': 'export const a = 1;\n',
  'tool.sh': '#!/bin/sh\n',
};
const after = {
  'README.md': 'read me, and more\n',
  'docs/new name.md': 'new\n',
  'image.bin': '\0\x01\x02binary',
  link: '-> src/a.ts',
  'src/a.ts': 'export const a = 2;\n',
  'src/b\nc\x1b[2J.ts': 'odd name\n',
  'tool.sh': '#!/bin/sh\n!x',
};

/** What its agent has said. */
export const believed = parseContext({
  version: 1,
  summary: 'src/a.ts says one where it should say two\u001b[2J',
  source_refs: ['src/a.ts:1'],
  diffs: [{ path: 'src/a.ts', text: '+export const a = 2;' }],
  model: 'strong-2',
  at: 'before_compaction',
});

export async function makeClosedRun(
  dataDir: DataDir,
  options: {
    readonly output?: string;
    readonly by?: EntryData<'run.opened'>['by'];
    /** What the journal says of the context snapshot that is not so. */
    readonly said?: Partial<EntryData<'context.attached'>>;
  } = {},
): Promise<ClosedRun> {
  const { output = 'printed by a command\n'.repeat(3), by, said = {} } = options;
  const blobs = await BlobStore.open(dataDir.blobsDir);
  const dir = await dataDir.createRun(newId());
  const policy = parsePolicy(policyText, '/etc/policies/small.yaml', {
    intent: { summary: 'mend it', risk_tags: ['parser'] },
  });
  const [base, now] = [await treeOf(before, blobs), await treeOf(after, blobs)];
  const changeSet = diffTrees(base, now);
  const [patch, classified] = [await makePatch(base, changeSet, blobs), await classifyChanges(base, changeSet, blobs)];
  const candidate = {
    changeSet,
    classified,
    patch,
    violations: [{ path: 'etc/x', kind: 'added', class: 'read' }],
    violationsLeftOut: 0,
    findings: [{ path: 'tool.sh', kind: 'mode_normalised', effect: 'noted' }],
    findingsLeftOut: 0,
    scratch: { files: 0, bytes: 0 },
    ignored: { files: 0, bytes: 0 },
    complete: true,
    held: [],
    due: [],
  } as const;
  const request = await approve(dir, policy.digest);
  await mkdir(dir.callsDir, { recursive: true });
  const fingerprints = await fingerprintsOf(dir, dataDir);
  await keepContext(dir, digestOfContext(believed), encodeContext(believed));
  const story = await storyOf(candidate, { policy, base, output, request, by, fingerprints, said });
  await Promise.all([
    writeFile(dir.journal, textOf(linesOf(story, dir.id))),
    writeFile(dir.policy, formatPolicyRecord(policy)),
    writeFile(dir.base, encodeTree(base)),
    writeFile(dir.changeSet, encodeChangeSet(changeSet)),
    writeFile(dir.patch, patch.bytes),
    writeFile(join(dir.path, 'diff.json'), `${JSON.stringify(exportDocument(candidate, policy.digest))}\n`),
    writeFile(join(dir.callsDir, 'ledger.ndjson'), ledgerOf('c1', output)),
  ]);
  return { dir, policy, base, changeSet };
}

/** One of that run, with a journal of a run that it has made. */
export async function verifyIt(
  dataDir: DataDir,
  { dir, policy, base, changeSet }: ClosedRun,
  over: Partial<Verification> = {},
): Promise<Verification> {
  const gate = await dataDir.createRun(newId());
  const lines = linesOf([opened, closed(0)], gate.id);
  await writeFile(gate.journal, textOf(lines));
  const { hash } = JSON.parse(lines.at(-1) ?? '') as { hash: Digest };
  const verification = someVerification({
    run: dir.id,
    candidate: digestOfChangeSet(changeSet),
    base: { digest: digestOfTree(base), commit: 'c'.repeat(40) },
    policy: policy.digest,
    image: await image(),
    runs: [{ run: gate.id, of: 'tests/1', journal: hash }],
    ...over,
  });
  await writeVerification(dir, verification);
  return verification;
}

/** Its calls were made again, in a run that is gone, and came out the same. */
export async function replayIt(
  { dir, policy, base, changeSet }: ClosedRun,
  over: Partial<ReplayRecord> = {},
): Promise<void> {
  const last = (await readFile(dir.journal, 'utf8')).trimEnd().split('\n').at(-1) ?? '';
  const { hash } = JSON.parse(last) as { hash: Digest };
  const record = someReplay({
    run: dir.id,
    journal: hash,
    candidate: digestOfChangeSet(changeSet),
    base: digestOfTree(base),
    policy: policy.digest,
    image: await image(),
  });
  await writeReplay(dir, { ...record, ...over });
}

async function image(): Promise<EntryData<'run.opened'>['image']> {
  return { reference: 'base', id: (await findLock('base', shippedImagesDir))?.id ?? digestOf('base') };
}

interface Told {
  readonly policy: LoadedPolicy;
  readonly base: Tree;
  readonly output: string;
  readonly request: ApprovalRequest;
  readonly by: EntryData<'run.opened'>['by'];
  readonly fingerprints: readonly Draft[];
  readonly said: Partial<EntryData<'context.attached'>>;
}

async function storyOf(
  candidate: Parameters<typeof collectedData>[0],
  { policy, base, output, request, by, fingerprints, said }: Told,
): Promise<readonly Draft[]> {
  const digest = digestOf('x');
  const bytes = Buffer.byteLength(encodeContext(believed));
  const attached = contextEntry(believed, { digest: digestOfContext(believed), number: 1, bytes });
  const { id, category, at, rule, quorum, expiresAt } = request;
  const asked = { id, category, digest: request.digest };
  const openedData: EntryData<'run.opened'> = {
    ...(opened.data as EntryData<'run.opened'>),
    intent: 'mend it',
    request: { summary: 'mend it', risk_tags: ['parser'] },
    policy: { name: 'small', digest: policy.digest, effective: JSON.parse(policy.canonical) as Record<string, never> },
    image: await image(),
    ...(by === undefined ? {} : { by }),
  };
  const workspace = { digest: digestOfTree(base), files: base.size, directories: 1, symlinks: 1, bytes: 9 };
  return [
    { type: 'run.opened', data: openedData },
    {
      type: 'sandbox.started',
      data: {
        sandbox: newId(0),
        container: 'c0ffee',
        specDigest: digest,
        workspace: { ...workspace, commit: 'c'.repeat(40), kind: 'git', strategy: 'overlay' },
      },
    },
    ...fingerprints,
    intended('c1'),
    {
      type: 'call.ended',
      data: {
        callId: 'c1',
        outcome: { kind: 'exited', code: 0 },
        ms: 1,
        output: { bytes: Buffer.byteLength(output), digest: digestOf(output), ref: 'calls/c1' },
      },
    },
    { type: 'context.attached', data: { ...attached, ...said } },
    { type: 'risk.raised', data: { from: 'low', to: 'high', by: 'the diff' } },
    { type: 'approval.requested', data: { ...asked, at, rule, quorum, expiresAt } },
    { type: 'approval.decided', data: { ...asked, verdict: 'approved', by: ['ada'], reason: 'read it' } },
    { type: 'workspace.collected', data: collectedData(candidate) },
    closed(1),
  ];
}

/** Two moments of one environment. */
async function fingerprintsOf(dir: RunDir, dataDir: DataDir): Promise<readonly Draft[]> {
  const drafts: Draft[] = [];
  for (const skew of [1, 2]) {
    const fingerprint = someFingerprint({ clock: sectionFrom({ skew_ms: skew }) });
    const { document } = await writeFingerprint(dir, dataDir.path, fingerprint);
    const data = { digest: fingerprint.digest, document, sections: sectionDigests(fingerprint.sections) };
    drafts.push({ type: 'environment.fingerprint', data: { at: skew === 1 ? 'open' : 'asked', ...data } });
  }
  return drafts;
}

async function approve(dir: RunDir, policy: Digest): Promise<ApprovalRequest> {
  const request: ApprovalRequest = {
    id: newId(),
    run: dir.id,
    category: 'diff_review',
    at: 'export',
    subject: 'README.md +1 -1',
    rule: 'approvals.diff_review',
    reach: '7 changed paths leave the sandbox',
    note: '',
    quorum: 1,
    reasonRequired: false,
    digest: digestOf(canonicalJson({ policy })),
    askedAt: '2026-01-01T00:00:00.000Z',
    expiresAt: '2026-01-01T01:00:00.000Z',
  };
  await mkdir(dir.approvalsDir, { recursive: true });
  const outcome = { kind: 'approved', by: ['ada'], reason: 'read it' } as const;
  await new ApprovalFiles(dir.approvalsDir).write(request, outcome, true);
  return request;
}

async function treeOf(files: Readonly<Record<string, string>>, blobs: BlobStore): Promise<Tree> {
  const nodes = new Map<string, Node>();
  for (const [path, text] of Object.entries(files)) {
    const parent = path.split('/').slice(0, -1).join('/');
    if (parent !== '') nodes.set(parent, { kind: 'directory' });
    if (text.startsWith('-> ')) nodes.set(path, { kind: 'symlink', target: text.slice(3) });
    else {
      const content = Buffer.from(text.replace(/!x$/, ''));
      const mode = text.endsWith('!x') ? 0o755 : 0o644;
      nodes.set(path, { kind: 'file', mode, digest: await blobs.put(content), sizeBytes: content.length });
    }
  }
  return sortedByBytes(nodes);
}

/** As the sandbox keeps a small output: within its ledger. */
function ledgerOf(callId: string, output: string): string {
  const bytes = Buffer.from(output);
  const end = {
    outcome: { kind: 'exited', code: 0 },
    wallMs: 1,
    cpuMs: 1,
    maxRssBytes: 0,
    descendantsAlive: 0,
    killed: 0,
  };
  const totals = { totalBytes: bytes.length, stdoutBytes: bytes.length, stderrBytes: 0 };
  return [
    { kind: 'call', number: 1, id: callId, startedMs: 0, terms: {} },
    {
      kind: 'done',
      number: 1,
      end: { ...end, output: totals },
      output: { bytes: bytes.toString('base64'), aux: '', entries: [['stdout', bytes.length, 0]] },
    },
  ]
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
}

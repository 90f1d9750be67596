import type { SourceFile } from '../language/source-file.ts';
import { standardDiffQuality, standardReruns } from '../language/standards.ts';
import type { Verify, VerifyGate } from '../language/verify.ts';

/** What a candidate of this policy has to pass beside what every candidate has. */
export interface EffectiveVerify {
  readonly gates: readonly EffectiveGate[];
  readonly reruns: EffectiveReruns;
  readonly diff: EffectiveDiffQuality;
}

export interface EffectiveGate {
  readonly id: string;
  readonly command: { readonly argv: readonly string[] } | { readonly script: string };
  readonly timeoutMs: number;
  readonly required: boolean;
  readonly report?: { readonly kind: 'junit' | 'tap'; readonly path?: string };
  readonly shuffle?: readonly string[];
  readonly egress: readonly string[];
  readonly inputs: readonly string[];
  readonly redGreen: boolean;
}

export interface EffectiveReruns {
  readonly same: number;
  readonly shuffled: number;
  readonly noNetwork: number;
  readonly halfCpu: number;
  readonly base: number;
}

export interface EffectiveDiffQuality {
  readonly files: number;
  readonly lines: number;
  readonly generated: Judged;
  readonly binary: Judged;
}

export type Judged = 'allow' | 'review' | 'deny';

/** What holds where no layer says anything: only what every candidate has to pass. */
export const standardVerify: EffectiveVerify = {
  gates: [],
  reruns: rerunsOf([]),
  diff: diffOf([]),
};

/**
 * Gates of all layers for this class; of reruns the most, of what a diff may be the least. Absent where no layer says
 * anything.
 */
export function verifyOf(
  chain: readonly SourceFile[],
  taskClass: string | undefined,
): { readonly verify?: EffectiveVerify } {
  const said = chain.flatMap(({ file }) => (file.verify === undefined ? [] : [file.verify]));
  if (said.length === 0) return {};
  const isFor = ({ classes }: VerifyGate): boolean =>
    classes === undefined || (taskClass !== undefined && classes.includes(taskClass));
  const gates = said.flatMap((one) => one.gates ?? []).filter(isFor);
  return { verify: { gates: gates.map(gateOf), reruns: rerunsOf(said), diff: diffOf(said) } };
}

const timeoutMs = 600_000;

function gateOf(gate: VerifyGate): EffectiveGate {
  const { report } = gate;
  return {
    id: gate.id,
    command: gate.run === undefined ? { script: gate.script ?? '' } : { argv: gate.run },
    timeoutMs: gate.timeout ?? timeoutMs,
    required: gate.required ?? true,
    ...(report === undefined
      ? {}
      : { report: { kind: report.kind, ...(report.path === undefined ? {} : { path: report.path }) } }),
    ...(gate.shuffle === undefined ? {} : { shuffle: gate.shuffle }),
    egress: gate.egress ?? [],
    inputs: gate.inputs ?? [],
    redGreen: gate.red_green ?? false,
  };
}

function rerunsOf(said: readonly Verify[]): EffectiveReruns {
  const most = (key: keyof typeof standardReruns): number => {
    const counts = said.flatMap(({ reruns }) => reruns?.[key] ?? []);
    return counts.length === 0 ? standardReruns[key] : Math.max(...counts);
  };
  return {
    same: most('same'),
    shuffled: most('shuffled'),
    noNetwork: most('no_network'),
    halfCpu: most('half_cpu'),
    base: most('base'),
  };
}

function diffOf(said: readonly Verify[]): EffectiveDiffQuality {
  const least = (key: 'files' | 'lines'): number => {
    const counts = said.flatMap(({ diff }) => diff?.[key] ?? []);
    return counts.length === 0 ? standardDiffQuality[key] : Math.min(...counts);
  };
  const strictest = (key: 'generated' | 'binary'): Judged => {
    const words = said.flatMap(({ diff }) => diff?.[key] ?? []);
    return words.length === 0
      ? standardDiffQuality[key]
      : (judgedInOrder.findLast((one) => words.includes(one)) ?? 'deny');
  };
  return {
    files: least('files'),
    lines: least('lines'),
    generated: strictest('generated'),
    binary: strictest('binary'),
  };
}

/** From the weakest to the strictest. */
export const judgedInOrder: readonly Judged[] = ['allow', 'review', 'deny'];

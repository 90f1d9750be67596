import type { Intent, IntentInput } from '../language/intent.ts';
import { riskLevels, type RiskLevel } from '../language/fields.ts';
import type { Egress } from '../language/egress.ts';
import type { Files } from '../language/files.ts';
import type { Budget, Limits } from '../language/limits.ts';
import { valueAt, type SourceFile } from '../language/source-file.ts';

export type Level = 'organisation' | 'repository' | 'risk' | 'lane' | 'class' | 'request';

/** One thing that narrows: a file, or a risk level, lane or class in it, or the request itself. */
export interface Restriction {
  readonly level: Level;
  /** Which file of the chain says it; the request comes after all. */
  readonly fileIndex: number;
  /** For people: `organisation org-floor`, `class bugfix of acme-web`, `request`. */
  readonly layer: string;
  readonly says: Says;
  /** Of a key below this restriction. */
  readonly placeOf: (path: readonly string[]) => string;
  readonly rawOf: (path: readonly string[]) => unknown;
}

interface Says {
  readonly images?: readonly string[] | undefined;
  readonly runtime?: 'runc' | 'runsc' | undefined;
  readonly files?: Files | undefined;
  readonly limits?: Limits | undefined;
  readonly budget?: Budget | undefined;
  readonly tools?: { readonly allow?: readonly string[] | undefined } | undefined;
  /** Names of egress profiles. */
  readonly egress?: readonly string[] | undefined;
  /** What a whole file says of egress. */
  readonly reach?: Egress | undefined;
  /** Approvals that every export needs. */
  readonly approvals?: readonly string[] | undefined;
}

/** Which part of a policy a run asks for, as a caller writes it. */
export interface TaskRequest {
  /** Needed where the policy has task classes. */
  readonly taskClass?: string | undefined;
  /** What the run is for; it can only narrow. */
  readonly intent?: IntentInput | undefined;
  readonly risk?: RiskLevel | undefined;
}

/** The same, understood. */
export interface Task {
  readonly taskClass?: string | undefined;
  readonly intent?: Intent | undefined;
  /** As the caller wrote the intent, for messages. */
  readonly written?: IntentInput | undefined;
  /** At least this risk, whatever the class says. */
  readonly risk?: RiskLevel | undefined;
}

/** From the widest to the narrowest: files, then risk levels, lane and class of each, then the request. */
export function restrictionsOf(chain: readonly SourceFile[], task: Task, risk: RiskLevel): readonly Restriction[] {
  const lane = laneOf(chain, task.taskClass);
  const levels = riskLevels.slice(0, riskLevels.indexOf(risk) + 1);
  return [
    ...chain.flatMap((_, file) => at(chain, file, levelOf(chain, file), fileLayer(chain, file), [])),
    ...levels.flatMap((level) =>
      inEach(chain, 'risk', `risk ${level}`, ['risk', 'levels', level], { withEgress: level === risk }),
    ),
    ...(lane === undefined ? [] : inEach(chain, 'lane', `lane ${lane}`, ['lanes', lane])),
    ...(task.taskClass === undefined
      ? []
      : inEach(chain, 'class', `class ${task.taskClass}`, ['classes', task.taskClass])),
    ...(task.intent === undefined ? [] : [requestOf(task.intent, task.written, chain.length)]),
  ];
}

/** The lane of a class, as the lowest file that names one says. */
export function laneOf(chain: readonly SourceFile[], taskClass: string | undefined): string | undefined {
  if (taskClass === undefined) return undefined;
  return chain.map(({ file }) => file.classes?.[taskClass]?.lane).findLast((lane) => lane !== undefined);
}

/** `organisation NAME` or `repository NAME`. */
export function fileLayer(chain: readonly SourceFile[], index: number): string {
  return `${levelOf(chain, index)} ${chain[index]?.file.name ?? ''}`;
}

function levelOf(chain: readonly SourceFile[], index: number): 'organisation' | 'repository' {
  return index < chain.length - 1 ? 'organisation' : 'repository';
}

function inEach(
  chain: readonly SourceFile[],
  level: Level,
  what: string,
  below: readonly string[],
  options: { withEgress?: boolean } = {},
): readonly Restriction[] {
  return chain.flatMap(({ file }, index) => at(chain, index, level, `${what} of ${file.name}`, below, options));
}

function at(
  chain: readonly SourceFile[],
  fileIndex: number,
  level: Level,
  layer: string,
  below: readonly string[],
  { withEgress = true } = {},
): readonly Restriction[] {
  const source = chain[fileIndex];
  const says = valueAt(source?.file, below) as Says | undefined;
  if (source === undefined || says === undefined) return [];
  const { images, runtime, files, limits, budget, tools } = says;
  // At the top of a file these keys hold definitions, not names.
  const named =
    below.length > 0
      ? { egress: withEgress ? says.egress : undefined, approvals: says.approvals }
      : { egress: source.file.egress?.use, reach: source.file.egress };
  return [
    {
      level,
      fileIndex,
      layer,
      says: { images, runtime, files, limits, budget, tools, ...named },
      placeOf: (path) => source.placeOf([...below, ...path]),
      rawOf: (path) => source.rawOf([...below, ...path]),
    },
  ];
}

function requestOf(intent: Intent, written: IntentInput | undefined, fileIndex: number): Restriction {
  const { files, tools, egress, limits, budget } = intent;
  return {
    level: 'request',
    fileIndex,
    layer: 'request',
    says: { files, tools, egress, limits, budget },
    placeOf: () => 'the intent',
    rawOf: (path) => valueAt(written ?? intent, path),
  };
}

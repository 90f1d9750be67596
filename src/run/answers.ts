import { setTimeout as sleep } from 'node:timers/promises';
import type { RunDir } from '../data-dir/data-dir.ts';
import { errorTable, isRunnerError, RunnerError, type ErrorCode } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { isLong, jsonPieces, parseLong } from '../long-json.ts';
import { AnswerFile, readLines, type Durability, type Place } from './answer-file.ts';
import type { AskedBefore, CallRequest } from './call-request.ts';

/**
 * The same call id twice is the same call. Promises:
 *  - an answer is on disk before it leaves, and stays the answer to its id: in this process, after the run has closed, and
 *    for whoever takes the run up after a crash;
 *  - so does a failure of ours once the call has begun; what failed before has not happened, and may be asked for again;
 *  - who asks for something else under the id is refused, and told nothing of the answer;
 *  - in memory there is of each answer only where it lies;
 *  - one of many megabytes is written and read in pieces: nobody else waits for all of it.
 */
export class Answers {
  readonly #file: AnswerFile;
  readonly #places: Map<string, Place>;
  readonly #making = new Map<string, BeingMade>();

  private constructor(file: AnswerFile, places: Map<string, Place>) {
    this.#file = file;
    this.#places = places;
  }

  static create(path: string, durability?: Durability): Answers {
    return new Answers(AnswerFile.create(path, durability), new Map());
  }

  /** Those of a runner that died. */
  static async reopen(path: string, durability?: Durability): Promise<Answers> {
    const places = new Map<string, Place>();
    const onLine = (line: string, place: Place): void => void places.set(callIdOf(line), place);
    const file = await AnswerFile.reopen(path, onLine, { lineBytesMax: headBytes, ...(durability && { durability }) });
    return new Answers(file, places);
  }

  /** What was answered, is being answered, or is answered now by `work`. Rejects with `call_id_reused` to another request. */
  once(callId: string, request: CallRequest, work: (making: Making) => Promise<ToolResult>): Promise<ToolResult> {
    const place = this.#places.get(callId);
    if (place !== undefined) return this.#file.read(place).then((line) => answerOf(line, request));
    const known = this.#making.get(callId);
    if (known !== undefined) return answerAlso(callId, known, request);
    const answer = this.#make(callId, request, work);
    this.#making.set(callId, { request, answer });
    return answer;
  }

  /** Is going to be the answer; undefined where none is being made. */
  making(callId: string): Promise<ToolResult> | undefined {
    return this.#making.get(callId)?.answer;
  }

  /** What is kept. */
  has(callId: string): boolean {
    return this.#places.has(callId);
  }

  /** The recorded answer; undefined where there is none yet. Rejects where the answer is a failure of ours. */
  async find(callId: string): Promise<ToolResult | undefined> {
    const place = this.#places.get(callId);
    return place === undefined ? undefined : answerOf(await this.#file.read(place));
  }

  /** Those that are being made come to their end first, if it is near. What was answered can still be asked for. */
  async close(): Promise<void> {
    const late = sleep(lastAnswersMs, undefined, { ref: false });
    await Promise.race([Promise.allSettled([...this.#making.values()].map(({ answer }) => answer)), late]);
    await this.#file.close();
  }

  /** Without waiting: who takes the run over reads what is here. */
  handOver(): Promise<void> {
    return this.#file.close();
  }

  async #make(
    callId: string,
    request: CallRequest,
    work: (making: Making) => Promise<ToolResult>,
  ): Promise<ToolResult> {
    let begun = false;
    const making: Making = {
      begun: () => {
        begun = true;
      },
      keep: async (result) => {
        await this.#keep(callId, request, result);
        await failpoint('call.kept');
      },
    };
    try {
      const result = await work(making);
      if (!this.#places.has(callId)) await this.#keep(callId, request, result);
      await failpoint('call.answered');
      return result;
    } catch (error) {
      // A failure that cannot be kept is told all the same: the id is in the journal, and never runs again.
      if (begun && isRunnerError(error) && !this.#places.has(callId))
        await this.#keep(callId, request, { callId, failed: { code: error.code, message: error.message } }).catch(
          () => undefined,
        );
      throw error;
    } finally {
      this.#making.delete(callId);
    }
  }

  async #keep(callId: string, request: CallRequest, answer: ToolResult | Failed): Promise<void> {
    const { callId: _, ...rest } = answer;
    const record = { callId, asked: await request.asked(), ...rest }; // the id first: `callIdOf`
    const place = this.#file.append(isLong(record) ? jsonPieces(record) : JSON.stringify(record));
    this.#places.set(callId, typeof place === 'number' ? place : await place);
  }
}

/** An answer in the making. */
export interface Making {
  /** From now on a failure of ours is the answer too. */
  readonly begun: () => void;
  /** This is going to be the answer: on disk once it resolves. */
  readonly keep: (result: ToolResult) => Promise<void>;
}

interface BeingMade {
  readonly request: CallRequest;
  readonly answer: Promise<ToolResult>;
}

const lastAnswersMs = 5_000;

interface Failed {
  readonly callId: string;
  readonly failed: { readonly code: string; readonly message: string };
}

/** Absent in what a version has written that did not look at it. */
type Kept = (ToolResult | Failed) & { readonly asked?: AskedBefore };

/**
 * The recorded answer of a call, from the directory of its run alone. Rejects where it is a failure of ours, and with
 * `call_id_reused` where it is not the answer to `request`.
 */
export async function findAnswer(dir: RunDir, callId: string, request?: CallRequest): Promise<ToolResult | undefined> {
  const find = await findAnswers(dir);
  return find(callId, request);
}

/** The same of many calls: the file is looked through once. */
export async function findAnswers(dir: RunDir): Promise<FindAnswer> {
  const places = new Map<string, Place>();
  await readLines(dir.answers, (line, place) => places.set(callIdOf(line), place), headBytes);
  const file = AnswerFile.create(dir.answers);
  return async (callId, request) => {
    const place = places.get(callId);
    return place === undefined ? undefined : answerOf(await file.read(place), request);
  };
}

type FindAnswer = (callId: string, request?: CallRequest) => Promise<ToolResult | undefined>;

/** Ids need no escaping in JSON. */
function callIdOf(line: string): string {
  return line.slice(head.length, line.indexOf('"', head.length));
}

const head = '{"callId":"';
/** Of a line: its id is among them. */
const headBytes = 256;

async function answerAlso(callId: string, { request, answer }: BeingMade, other: CallRequest): Promise<ToolResult> {
  await other.refuseOther(callId, await request.asked());
  return answer;
}

async function answerOf(line: Buffer, request?: CallRequest): Promise<ToolResult> {
  const { asked, ...answer } = (await parseLong(line)) as Kept;
  if (asked !== undefined) await request?.refuseOther(answer.callId, asked);
  if (!('failed' in answer)) return answer;
  const { code, message } = answer.failed;
  throw new RunnerError(code in errorTable ? (code as ErrorCode) : 'internal', message);
}

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  McpServer,
  ProtocolError,
  ProtocolErrorCode,
  type CallToolRequest,
  type CallToolResult,
  type InputRequiredResult,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { canonicalJson, digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { callIdPattern, newId } from '../ids.ts';
import type { DelegatedRun, Offer } from '../run/delegated-run.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { approvalForm, type ElicitedApprovals } from './elicited-approvals.ts';
import { Progress } from './progress.ts';
import { readResource, resourceList } from './resources.ts';
import { contextToolName, toolList } from './tool-list.ts';
import { contextReply, failureReply, toolReply } from './tool-reply.ts';
import { WaitingCalls } from './waiting-calls.ts';

export interface McpRunOptions {
  /** Of glovebox. */
  readonly version: string;
  /** Results without structured content, for clients that show it to their model instead of the text. */
  readonly textOnly?: boolean;
  /** What will be offered, where that is known before the run is there. */
  readonly offer?: () => Promise<Offer>;
  /** Of this caller, where several servers share a run. */
  readonly waiting?: WaitingCalls;
  /** Who asks the person at the client; without it, calls that wait for people say so. */
  readonly approvals?: ElicitedApprovals;
}

/** `_meta` of a call: its id, where the client has one of its own. The same id again is the same call. */
const callIdKey = 'glovebox/callId';
const callsMax = 64;
const answerMs = 3_600_000;
const roundsMax = 8;

/** What a call was asked for, kept by the client and signed here. */
interface Round {
  readonly callId: string;
  readonly approval: string;
  readonly digest: string;
}

/**
 * One run as an MCP server: for a connection, or for many that share the run. It holds no rule: the run answers. `opened` is asked
 * for it with the first request that needs one: who only looks what this is opens nothing.
 */
export class McpRun {
  readonly #opened: () => Promise<DelegatedRun>;
  readonly #options: McpRunOptions;
  readonly #rounds = createRequestStateCodec<Round>({ key: randomBytes(32), ttlSeconds: answerMs / 1000 });
  readonly #waiting: WaitingCalls;
  #calls = 0;

  constructor(opened: () => Promise<DelegatedRun>, options: McpRunOptions) {
    this.#opened = opened;
    this.#options = options;
    this.#waiting = options.waiting ?? new WaitingCalls();
  }

  /** A server for one connection, or one request. */
  server(): McpServer {
    const options = {
      capabilities: { tools: {}, resources: {} },
      instructions,
      requestState: { verify: (state: string, ctx: ServerContext) => this.#rounds.verify(state, ctx) },
      inputRequired: { maxRounds: roundsMax, roundTimeoutMs: answerMs },
    };
    const mcp = new McpServer({ name: 'glovebox', version: this.#options.version }, options);
    const { server } = mcp;
    server.setRequestHandler('tools/list', async () => ({
      tools: toolList(await (this.#options.offer ?? this.#opened)()),
    }));
    server.setRequestHandler('resources/list', () => ({ resources: resourceList }));
    server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates: [] }));
    server.setRequestHandler('resources/read', async ({ params }) => readResource(await this.#opened(), params.uri));
    server.setRequestHandler('tools/call', (request, ctx) => {
      const envelope: Readonly<Record<string, unknown>> = ctx.mcpReq.envelope ?? {};
      const told = envelope[CLIENT_CAPABILITIES_META_KEY] ?? server.getClientCapabilities();
      return this.#call(request, ctx, showsForms(told));
    });
    return mcp;
  }

  async #call(
    { params }: CallToolRequest,
    ctx: ServerContext,
    elicits: boolean,
  ): Promise<CallToolResult | InputRequiredResult> {
    const { name, arguments: given = {} } = params;
    const round = ctx.mcpReq.requestState<Round>();
    const asked = digestOf(canonicalJson({ name, given }));
    const callId = round?.callId ?? givenCallId(ctx) ?? this.#waiting.find(asked) ?? newId();
    if (this.#calls >= callsMax)
      return failureReply(
        callId,
        new RunnerError('too_many_calls', `${callsMax} calls are being answered; wait for one`),
      );
    this.#calls += 1;
    try {
      const run = await this.#opened();
      if (name === contextToolName && run.asksContext) return contextReply(callId, await run.attachContext(given));
      if (!run.tools().some((tool) => tool.name === name))
        throw new ProtocolError(
          ProtocolErrorCode.InvalidParams,
          `no tool ${name.slice(0, 100)} is offered in this run`,
        );
      if ('tool' in given) throw new RunnerError('invalid_request', `call ${callId}: ${name} takes no argument "tool"`);
      const input = { ...given, tool: name } as ToolCallInput; // the run refuses what does not fit
      const end = await this.#perform(run, callId, input, {
        ctx,
        round,
        approvals: elicits ? this.#options.approvals : undefined,
      });
      if ('inputRequests' in end) return end;
      this.#waiting.note(asked, callId, end);
      return toolReply(end, this.#options);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      return failureReply(callId, error);
    } finally {
      this.#calls -= 1;
    }
  }

  /** The result; or the question that has to be answered before there is one. */
  async #perform(
    run: DelegatedRun,
    callId: string,
    input: ToolCallInput,
    {
      ctx,
      round,
      approvals,
    }: { ctx: ServerContext; round: Round | undefined; approvals: ElicitedApprovals | undefined },
  ): Promise<ToolResult | (InputRequiredResult & { inputRequests: object })> {
    const { signal, notify, _meta: meta, inputResponses } = ctx.mcpReq;
    if (round !== undefined) approvals?.answer(round, inputResponses?.['approval']);
    const answer = run.call(callId, input);
    const follows = followed(callId, input);
    const progress =
      meta?.progressToken === undefined || follows === undefined
        ? undefined
        : new Progress({ ...follows, run, token: meta.progressToken, notify });
    const onAbort = (): void => void this.#cancel(run, callId, input, answer);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const end = approvals === undefined ? await answer : await approvals.during(callId, answer);
      if ('asks' in end) {
        const { id: approval, digest } = end.asks;
        const requestState = await this.#rounds.mint({ callId, approval, digest }, ctx);
        const inputRequests = { approval: inputRequired.elicit(approvalForm(end.asks)) };
        answer.catch(() => undefined); // it is awaited by the next round, where there is one
        return { ...inputRequired({ inputRequests, requestState }), inputRequests };
      }
      signal.removeEventListener('abort', onAbort);
      return end;
    } finally {
      progress?.stop();
    }
  }

  /** The client does not want it any more: what was started ends, and nobody is asked for it. */
  async #cancel(run: DelegatedRun, callId: string, input: ToolCallInput, answer: Promise<ToolResult>): Promise<void> {
    this.#options.approvals?.withdraw(callId);
    if (input.tool !== 'exec') return;
    const settled = new AbortController();
    void answer.then(
      () => settled.abort(),
      () => settled.abort(),
    );
    // It may not have started yet; where it never does, its answer says so.
    while (!settled.signal.aborted) {
      await run.cancel(callId).catch(() => undefined);
      await sleep(cancelEveryMs, undefined, { signal: settled.signal }).catch(() => undefined);
    }
    await run.cancel(callId).catch(() => undefined);
  }
}

const cancelEveryMs = 50;

/** It can put a question with fields to a person; a bare `elicitation: {}` says so too. */
function showsForms(told: unknown): boolean {
  const elicitation = typeof told === 'object' && told !== null && 'elicitation' in told ? told.elicitation : undefined;
  if (typeof elicitation !== 'object' || elicitation === null) return false;
  return 'form' in elicitation || !('url' in elicitation);
}

function givenCallId(ctx: ServerContext): string | undefined {
  const { _meta: meta } = ctx.mcpReq;
  const given = meta?.[callIdKey];
  if (given === undefined) return undefined;
  if (typeof given === 'string' && callIdPattern.test(given)) return given;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, `_meta["${callIdKey}"] must match ${callIdPattern.source}`);
}

/** The command whose output the caller waits for. */
function followed(callId: string, input: ToolCallInput): { callId: string; fromOffset: number } | undefined {
  if (input.tool === 'exec') return { callId, fromOffset: 0 };
  if (input.tool === 'exec_poll') return { callId: input.callId, fromOffset: input.fromOffset ?? 0 };
  return undefined;
}

const instructions = [
  'These tools work in a sealed sandbox with a copy of the workspace at /workspace; nothing else of this machine is there.',
  'There is no network but what the policy lists: no retry, mirror or proxy changes that, and a refusal names its rule.',
  'What you change there comes out as a diff when the session ends. A denial is final: it says what would be allowed.',
  'A command that takes longer than yieldMs goes on; wait for it with exec_poll.',
].join(' ');

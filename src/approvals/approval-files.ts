import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ApprovalRequest, type ApprovalOutcome } from './approval.ts';

export const ApprovalRecord = z.strictObject({
  request: ApprovalRequest,
  /** Null: nobody has decided yet. */
  outcome: z
    .strictObject({
      kind: z.enum(['approved', 'denied', 'expired', 'broken']),
      by: z.array(z.string().max(500)).max(10).readonly(),
      reason: z.string().max(2000),
    })
    .nullable(),
  /** What was approved has been done: it holds for nothing else any more. */
  used: z.boolean(),
});
export type ApprovalRecord = z.infer<typeof ApprovalRecord>;

const filesMax = 10_000;

/** What was asked in a run, one file each; it outlives the runner. What cannot be read counts as not asked. */
export class ApprovalFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async write(request: ApprovalRequest, outcome: ApprovalOutcome | null, used: boolean): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const file = join(this.#directory, `${request.id}.json`);
    await writeFile(`${file}.new`, `${JSON.stringify({ request, outcome, used })}\n`, { mode: 0o600 });
    await rename(`${file}.new`, file);
  }

  async readAll(): Promise<readonly ApprovalRecord[]> {
    const names = await readdir(this.#directory).catch(() => []);
    const records: ApprovalRecord[] = [];
    for (const name of names.filter((one) => one.endsWith('.json')).slice(0, filesMax)) {
      const text = await readFile(join(this.#directory, name), 'utf8');
      const parsed = ApprovalRecord.safeParse(parseJson(text));
      if (parsed.success) records.push(parsed.data);
    }
    return records;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

import { GloveboxClient, type OpenRunInput, type ToolCallInput } from 'glovebox/client';

/** What a model says next: a tool call, or that it is done. It is given what the last call came to. Put yours here. */
export type Model = (seen: string) => Promise<ToolCallInput | 'done'>;

const turnsMax = 40;

/** A whole harness: opens a run, lets the model work in it until it is done, and returns the patch. */
export async function work(model: Model, client: GloveboxClient, task: OpenRunInput): Promise<string> {
  const run = await client.runs.open(task);
  try {
    let seen = 'Begin.';
    for (let turn = 1; turn <= turnsMax; turn++) {
      const call = await model(seen);
      if (call === 'done') {
        await run.close({ reason: 'finished' });
        return (await run.patch()).toString();
      }
      // The turn is the id of the call: whoever asks again after a crash gets its answer, and it never runs twice.
      let result = await run.call(`turn-${turn}`, call);
      if (result.data?.kind === 'exec' && result.data.state === 'running')
        result = await run.command(`turn-${turn}`).ended();
      seen = result.text; // failures and denials too: the model reads what happened, and goes on
    }
    throw new Error(`the model was not done after ${turnsMax} turns`);
  } catch (error) {
    await run.close({ reason: 'failed', summary: String(error) });
    throw error;
  }
}

if (process.argv[1]?.endsWith('harness.ts') === true) {
  const { GLOVEBOX_URL: url, GLOVEBOX_KEY: key } = process.env; // without a URL: a service in this process
  const client = url === undefined ? await GloveboxClient.embedded() : await GloveboxClient.connect({ url, key });
  const script: (ToolCallInput | 'done')[] = [{ tool: 'exec', argv: ['uname', '-a'] }, 'done'];
  process.stdout.write(await work(async () => script.shift() ?? 'done', client, { intent: 'look around' }));
  await client.close();
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { compiled } from '../program.fixture.ts';

const here = fileURLToPath(new URL('interruption.ts', import.meta.url));

/** A command line of its own that does `script`. With `leave` the reader of its output goes at its first word. */
async function commandLine(script: string, leave = false): Promise<{ ended: unknown[]; out: string; said: string }> {
  const program = `
    import { spawn } from 'node:child_process';
    import { once } from 'node:events';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { Interruption, watchOutput } from '${here}';
    watchOutput();
    /** Writes to a program that has closed its input. */
    async function writeToDeafProgram() {
      const deaf = spawn('sh', ['-c', 'exec <&-; echo deaf; exec sleep 5'], { stdio: ['pipe', 'pipe', 'ignore'] });
      const broken = once(deaf.stdin, 'error').catch((error) => [error]);
      await once(deaf.stdout, 'data');
      deaf.stdin.write('are you there?');
      const [error] = await broken;
      deaf.kill('SIGKILL');
      return error.code;
    }
    ${script}`;
  const child = spawn(process.execPath, [await compiled(program)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = text(child.stderr);
  const ended = once(child, 'close');
  if (leave) child.stdout.once('data', () => child.stdout.destroy());
  const out = leave ? '' : await text(child.stdout);
  return { ended: await ended, out, said: await said };
}

test('a program of ours that reads no more of its input is no interruption, and kills nobody once one is over', async () => {
  const { ended, out } = await commandLine(`
    const interruption = new Interruption();
    console.log(await writeToDeafProgram(), interruption.signal.aborted);
    interruption.end();
    console.log(await writeToDeafProgram());`);
  expect([ended, out]).toEqual([[0, null], 'EPIPE false\nEPIPE\n']);
});

test('a reader of our output that goes is one, with the exit code of the signal', async () => {
  const { said } = await commandLine(
    `const interruption = new Interruption();
     while (!interruption.signal.aborted) { console.log('a line'); await sleep(5); }
     console.error(interruption.exit.code);
     interruption.end();`,
    true,
  );
  expect(said).toBe('141\n');
});

test('where nothing would have to be closed, it is the end', async () => {
  const { ended, said } = await commandLine(`for (;;) { console.log('a line'); await sleep(5); }`, true);
  expect([ended, said]).toEqual([[141, null], '']);
});

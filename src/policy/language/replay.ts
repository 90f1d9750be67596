import { RE2JS } from 're2js';
import { z } from 'zod';
import { field } from './fields.ts';

/** What counts when the calls of a run are made again. `docs/replay.md` explains. */

const programSizeMax = 1000;

const Noise = z
  .string()
  .min(1)
  .max(300)
  .superRefine((pattern, context) => {
    const why = whyNoNoise(pattern);
    if (why !== undefined) context.addIssue({ code: 'custom', message: why });
  });

export const Replay = z.strictObject({
  noise: field(
    z.array(Noise).max(64).readonly(),
    'What may differ in what is printed, as RE2 expressions within a line. A lower layer names none that this one does not.',
    [],
  ),
  network: field(
    z.boolean(),
    'A replay may reach what the run could; left out: nothing, unless whoever replays says `--network`.',
  ),
});

/** RE2 alone: a line takes time in proportion to its length, whatever is written here. */
function whyNoNoise(pattern: string): string | undefined {
  try {
    const re = RE2JS.compile(pattern);
    if (re.programSize() > programSizeMax) return 'the expression is too large; write a shorter one';
    return re.matches('') ? 'the expression fits nothing at all; write one that fits what is noise' : undefined;
  } catch (error) {
    const why = error instanceof Error ? error.message : 'it cannot be compiled';
    return `not an expression of RE2 (${why})`;
  }
}

import { z } from 'zod';

const Input = z.strictObject({
  source: z
    .string()
    .regex(
      /^(?:\/(?!\.{1,2}(?:\/|$))[^/\0]+)+$/,
      'write an absolute path, without . and .. and without a slash at its end',
    )
    .max(4096)
    .describe('A directory of this machine, by its real path.'),
  target: z
    .string()
    .regex(/^\/inputs\/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'write /inputs/ and a name of letters, digits, dots, _ and -')
    .describe('Where it is in the sandbox: `/inputs/` and a name.'),
});

export const Inputs = z
  .array(Input)
  .max(16)
  .superRefine((inputs, context) => {
    const twice = inputs.findIndex(({ target }, at) => inputs.findIndex((other) => other.target === target) < at);
    if (twice >= 0) context.addIssue({ code: 'custom', message: 'the same target twice', path: [twice, 'target'] });
  })
  .readonly();

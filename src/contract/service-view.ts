import { z } from 'zod';

export const Health = z.strictObject({ ok: z.literal(true) });

export const ImageList = z.strictObject({
  images: z
    .array(
      z.strictObject({
        name: z.string(),
        id: z.string().nullable().describe('null: it is not built.'),
        state: z.enum(['absent', 'locked', 'moved', 'stale']),
        bytes: z.int().nullable(),
      }),
    )
    .readonly(),
});
export type ImageList = z.infer<typeof ImageList>;

export const PolicyList = z.strictObject({ policies: z.array(z.string()).readonly() });

export const PolicyView = z.strictObject({
  name: z.string(),
  description: z.string(),
  classes: z.array(z.string()).readonly(),
  shipped: z.boolean().describe('It came with Glovebox.'),
  text: z.string().describe('YAML.'),
});

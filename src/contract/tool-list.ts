import { z } from 'zod';

export const ToolList = z.strictObject({
  tools: z
    .array(
      z.strictObject({
        name: z.string(),
        description: z.string(),
        inputSchema: z.record(z.string(), z.unknown()).describe('JSON Schema, without `tool` itself.'),
      }),
    )
    .readonly(),
});

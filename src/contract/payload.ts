/** Calls that may have their bytes as the body of the request, and the argument that those are. */
export const payloads = { write: 'content', upload: 'tar', exec_write: 'data', exec: 'stdin' } as const;
export type Payloads = typeof payloads;

export function payloadOf(tool: unknown): Payloads[keyof Payloads] | undefined {
  return typeof tool === 'string' && Object.hasOwn(payloads, tool) ? payloads[tool as keyof Payloads] : undefined;
}

import { isUtf8 } from 'node:buffer';
import { digestOf } from '../digest.ts';
import type { EditCall } from './calls/file-calls.ts';
import { editText } from './edit-text.ts';
import type { ToolContext } from './tool-context.ts';
import { ToolError, type ToolData } from './tool-result.ts';

/** Replaces exact text. What was read is what is replaced: a change in between is a `conflict`, and nothing is written. */
export async function edit(context: ToolContext, call: EditCall): Promise<ToolData> {
  const { bytes } = await context.files.read(call.path);
  if (!isUtf8(bytes))
    throw new ToolError('not_text', `${call.path} is not UTF-8 text; use write with base64`, call.path);
  const edited = editText(bytes.toString('utf8'), call);
  const content = Buffer.from(edited.content, 'utf8');
  const entry = await context.files.write(call.path, content, { create: 'never', ifMatch: digestOf(bytes) });
  return { kind: 'edited', path: call.path, lines: edited.lines, digest: entry.digest ?? digestOf(content) };
}

import type { Payloads } from '../contract/payload.ts';
import { jsonBody } from './requests.ts';
import type { Ask } from './transport.ts';

type Sent = Pick<Ask, 'path' | 'headers' | 'body'>;

/** As the service has it; a client loads no schemas. */
const payloads: Payloads = { write: 'content', upload: 'tar', exec_write: 'data', exec: 'stdin' };
/** What a service takes as JSON is bounded, and bytes are a third less than their base64. */
const jsonBytesMax = 1_048_576;
/** Of what goes into the address beside the bytes. */
const restMax = 8_000;

/** A call as it is sent: as JSON, or with its bytes as the body where they are many. */
export function callBody(path: string, call: { readonly tool: string }): Sent {
  const field = Object.hasOwn(payloads, call.tool) ? payloads[call.tool as keyof Payloads] : undefined;
  const given = field === undefined ? undefined : bytesIn((call as Readonly<Record<string, unknown>>)[field]);
  if (field === undefined || given === undefined) return { path, ...jsonBody(call) };
  const rest = encodeURIComponent(JSON.stringify({ ...call, [field]: undefined }));
  if (given.length > jsonBytesMax && rest.length <= restMax)
    return {
      path: `${path}/payload?call=${rest}`,
      headers: { 'content-type': 'application/octet-stream' },
      body: given,
    };
  const base64 = given.toString('base64');
  return { path, ...jsonBody({ ...call, [field]: field === 'tar' ? base64 : { base64 } }) };
}

/** Undefined: it is short text, or none at all, and goes as it is. */
function bytesIn(value: unknown): Buffer | undefined {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (typeof value === 'string') return isManyInBase64(value) ? Buffer.from(value, 'base64') : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  if ('base64' in value) return bytesIn(value.base64);
  const long = 'utf8' in value && typeof value.utf8 === 'string' && value.utf8.length > jsonBytesMax / 3;
  return long ? Buffer.from(String(value.utf8), 'utf8') : undefined;
}

/** What is no base64 is for the service to refuse. */
function isManyInBase64(text: string): boolean {
  return text.length > jsonBytesMax && text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

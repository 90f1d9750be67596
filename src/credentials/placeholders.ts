/** Text of a header's value with a placeholder in it, as it is or within the base64 of `Basic` (RFC 7617). */
export function holds(value: string, placeholder: string): boolean {
  return value.includes(placeholder) || basicOf(value)?.includes(placeholder) === true;
}

export function replaced(value: string, placeholder: string, secret: string): string {
  const direct = value.replaceAll(placeholder, () => secret);
  const pair = basicOf(value);
  if (pair?.includes(placeholder) !== true) return direct;
  const encoded = Buffer.from(
    pair.replaceAll(placeholder, () => secret),
    'latin1',
  ).toString('base64');
  return `Basic ${encoded}`;
}

function basicOf(value: string): string | undefined {
  const [, encoded] = /^\s*basic\s+([A-Za-z0-9+/_=-]+)\s*$/i.exec(value) ?? [];
  return encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString('latin1');
}

/** A URL may hide it behind percent signs. */
export function urlHolds(url: URL, placeholder: string): boolean {
  const text = url.href;
  return text.includes(placeholder) || unescaped(text).includes(placeholder);
}

function unescaped(text: string): string {
  return text.replaceAll(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

/** Of values in values: what is deeper ends whoever goes down into it. */
const depthMax = 64;

/**
 * Whether a value is what JSON would give back for it, no deeper than a bound, and no text in it is longer than `textMax` UTF-16 units.
 * Stricter than `JSON.stringify`, which leaves out and turns into null what it does not know.
 */
export function isJson(value: unknown, textMax = Infinity, depth = 0): boolean {
  switch (typeof value) {
    case 'string':
      return value.length <= textMax;
    case 'number':
      return Number.isFinite(value);
    case 'boolean':
      return true;
    case 'object':
      if (value === null) return true;
      if (depth >= depthMax) return false;
      return Array.isArray(value) ? isJsonArray(value, textMax, depth + 1) : isJsonObject(value, textMax, depth + 1);
    default:
      return false;
  }
}

/** A hole is none of JSON's values either. */
function isJsonArray(value: readonly unknown[], textMax: number, depth: number): boolean {
  for (const item of value) if (!isJson(item, textMax, depth)) return false;
  return true;
}

/** A member `__proto__` is what some readers lose. */
function isJsonObject(value: object, textMax: number, depth: number): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  const members = value as Readonly<Record<string, unknown>>;
  for (const key of Object.keys(members))
    if (key === '__proto__' || !isJson(members[key], textMax, depth)) return false;
  return true;
}

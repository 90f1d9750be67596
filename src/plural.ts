/** `1 file`, `2 files`: how many of what, as a person says it. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

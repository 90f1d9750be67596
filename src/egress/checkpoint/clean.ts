/** Printable ASCII of at most so many characters: what a record or a message may hold of what a client has written. */
export function clean(text: string, charactersMax: number): string {
  const shown = text.length <= charactersMax ? text : `${text.slice(0, charactersMax - 3)}...`;
  return shown.replace(/[^\x20-\x7e]/g, '?');
}

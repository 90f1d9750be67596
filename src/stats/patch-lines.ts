/** Longer patches are not compared. */
export const patchBytesMax = 16 * 1024 * 1024;

/**
 * In how many lines two patches to the same base differ: those that one of them adds or removes and the other does not. It is what a
 * diff of the two results would count, but for lines that were only moved. A binary file that differs is one. Pure; of hostile text.
 */
export function linesBetween(before: Uint8Array, after: Uint8Array): number {
  const [old, now] = [filesOf(before), filesOf(after)];
  let lines = 0;
  for (const path of new Set([...old.keys(), ...now.keys()]))
    lines += difference(old.get(path) ?? nothing, now.get(path) ?? nothing);
  return lines;
}

type Lines = ReadonlyMap<string, number>;
const nothing: Lines = new Map();

function difference(old: Lines, now: Lines): number {
  let lines = 0;
  for (const [line, count] of old) lines += Math.max(0, count - (now.get(line) ?? 0));
  for (const [line, count] of now) lines += Math.max(0, count - (old.get(line) ?? 0));
  return lines === 2 && isBinary(old) && isBinary(now) ? 1 : lines;
}

/** What is added and removed, by file: as often as it comes, with its sign. */
function filesOf(patch: Uint8Array): ReadonlyMap<string, Lines> {
  const files = new Map<string, Map<string, number>>();
  let lines = new Map<string, number>();
  let [left, right] = [0, 0];
  let binary: string[] | undefined;
  const settle = (): void => {
    if (binary !== undefined) lines.set(`${binarySign}${binary.join('\n')}`, 1);
    binary = undefined;
  };
  for (const line of Buffer.from(patch).toString('latin1').split('\n')) {
    if (left > 0 || right > 0) {
      const sign = line[0];
      if (sign !== '+') left -= sign === '\\' ? 0 : 1;
      if (sign !== '-') right -= sign === '\\' ? 0 : 1;
      if (sign === '+' || sign === '-') lines.set(line, (lines.get(line) ?? 0) + 1);
      continue;
    }
    const [, oldCount = '1', newCount = '1'] = hunkPattern.exec(line) ?? [];
    if (line.startsWith('diff --git ')) {
      settle();
      lines = new Map();
      files.set(line, lines);
    } else if (hunkPattern.test(line)) [left, right] = [Number(oldCount), Number(newCount)];
    else if (line === 'GIT binary patch') binary = [];
    else binary?.push(line);
  }
  settle();
  return files;
}

/** No line of a hunk begins with it. */
const binarySign = 'binary ';
const hunkPattern = /^@@ -\d{1,15}(?:,(\d{1,15}))? \+\d{1,15}(?:,(\d{1,15}))? @@/;

function isBinary(lines: Lines): boolean {
  return lines.size === 1 && [...lines.keys()].every((line) => line.startsWith(binarySign));
}

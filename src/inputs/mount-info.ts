/** What is mounted on this machine, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). */
export function mountPointsIn(mountinfo: string): readonly string[] {
  return mountsIn(mountinfo).map(({ at }) => at);
}

/** The options of the last mount on this place; undefined where nothing is mounted. */
export function mountOptionsOf(mountinfo: string, place: string): readonly string[] | undefined {
  return mountsIn(mountinfo).findLast(({ at }) => at === place)?.options;
}

function mountsIn(mountinfo: string): readonly { readonly at: string; readonly options: readonly string[] }[] {
  return mountinfo.split('\n').map((line) => {
    const [, , , , at = '', options = ''] = line.split(' ');
    return { at: unescaped(at), options: options.split(',') };
  });
}

/** Blanks, line breaks and backslashes are written in octal. */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

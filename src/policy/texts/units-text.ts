/** As a policy would say it: the largest unit that leaves no fraction. */
export function sizeText(bytes: number): string {
  return inUnits(bytes, [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
    ['B', 1],
  ]);
}

export function timeText(ms: number): string {
  return inUnits(ms, [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
    ['ms', 1],
  ]);
}

function inUnits(value: number, units: readonly (readonly [string, number])[]): string {
  const [unit, size] = units.find(([, size]) => value >= size && value % size === 0) ?? ['', 1];
  return `${value / size}${unit}`;
}

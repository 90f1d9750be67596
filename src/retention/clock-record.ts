import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataDir } from '../data-dir/data-dir.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { jumpBetween, Moment } from '../machine-clock.ts';

/**
 * What the clocks of the machine said when somebody last looked at what is to be kept. What is kept for days is counted by the wall
 * clock; a jump of that, with a runner or between two of them, must not take away what nobody wanted gone.
 */
export async function whyClockIsDoubted(dataDir: DataDir, now: Moment): Promise<string | undefined> {
  const last = await read(dataDir);
  const jumpMs = last === undefined ? undefined : jumpBetween(last, now);
  if (jumpMs === undefined || Math.abs(jumpMs) <= jumpMaxMs) return undefined;
  const minutes = Math.round(jumpMs / 60_000);
  return (
    `the clock was set by ${minutes} minutes since retention last looked at it: nothing is removed. Set it right again, or, ` +
    'if it is right now, say so once: glovebox gc --clock-is-right'
  );
}

/** It is believed from now on. */
export async function believeClock(dataDir: DataDir, now: Moment): Promise<void> {
  await writeWhole(fileOf(dataDir), JSON.stringify(now));
}

async function read(dataDir: DataDir): Promise<Moment | undefined> {
  try {
    return Moment.safeParse(JSON.parse(await readFile(fileOf(dataDir), 'utf8'))).data;
  } catch {
    return undefined; // nobody has looked yet
  }
}

function fileOf({ path }: DataDir): string {
  return join(path, 'retention-clock.json');
}

const jumpMaxMs = 600_000;
